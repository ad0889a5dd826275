"""Keeps an eye on the pantry: two actions of a few lines each."""

from dataclasses import dataclass
from typing import Annotated, Literal

from mesh_plugin import Answer, Call, Failure, action

KEEPS_DAYS = {"milk": 7, "bread": 4, "eggs": 21, "butter": 60}


@dataclass
class Item:
    """Something in the pantry."""

    name: Annotated[str, "What it is, in English and lower case"]
    age_days: Annotated[int, "How many days ago it was bought", {"minimum": 0}]


@action()
def still_good(items: Annotated[list[Item], "What to check"]) -> dict[str, str]:
    """Tells which groceries are still good, by how long they usually keep."""
    unknown = [item.name for item in items if item.name not in KEEPS_DAYS]
    if unknown:
        raise Failure(f"I do not know how long {unknown[0]} keeps.", field="items")
    return {item.name: "good" if item.age_days <= KEEPS_DAYS[item.name] else "too old" for item in items}


@action(context=["pantry.people"])
def portions(
    dish: Annotated[str, "The dish"],
    size: Annotated[Literal["small", "large"], "How hungry people are"] = "small",
    *,
    call: Call,
) -> Answer:
    """Counts the portions of a dish for the people who eat here."""
    people = int(call.context.get("pantry.people", 1))
    count = people * (2 if size == "large" else 1)
    return Answer(f"{count} portions of {dish}", context_updates={"pantry.last_dish": dish})
