"""A plugin of the class form: `capabilities`, and for each of them a description, parameters and `execute`."""


class JourneyAgent:
    """Plans journeys."""

    capabilities = ["plan_journey"]

    plan_journey_description = "Plans a journey to a city and says what to do next."
    plan_journey_parameters = {
        "city": {"type": "string", "description": "Where to", "required": True},
        "days": {"type": "integer", "description": "How long", "minimum": 1},
    }

    async def execute(self, action, context, parameters):
        """Perform one of the capabilities."""
        days = parameters.get("days", 2)
        return {
            "result": f"{days} days in {parameters['city']}",
            "context_updates": {"journey.city": parameters["city"]},
            "next_actions": [{"action": "get_forecast", "parameters": {"location": parameters["city"]}}],
            "background_tasks": [],
        }
