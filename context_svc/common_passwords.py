"""Passwords of 15 characters and more that are tried first: keyboard walks, counted digits, doubled words.

Shorter ones need no list, they are too short anyway. Compared without regard to case, spaces and separators.
"""

from __future__ import annotations

from itertools import pairwise, product

_WALKS = """
1q2w3e4r5t6y7u8i9o0p 1qaz2wsx3edc4rfv 1qaz2wsx3edc4rfv5tgb 1qazxsw23edcvfr4 zaq12wsxcde34rfv
qwertyuiopasdfgh qwertyuiopasdfghjkl qwertyuiopasdfghjklzxcvbnm qwertyuiop12345 qwertyuiop123456
qwertyuiop1234567890 1234567890qwertyuiop asdfghjklqwertyuiop asdfghjklzxcvbnm qazwsxedcrfvtgb
qazwsxedcrfvtgbyhnujm zxcvbnmasdfghjkl mnbvcxzasdfghjkl poiuytrewqlkjhgfdsa
qwertzuiopasdfghjkl azertyuiopqsdfghjklm
abcdefghijklmno abcdefghijklmnop abcdefghijklmnopqrstuvwxyz abcdefgh12345678 abcd1234abcd1234
abc123abc123abc123
12345678abcdefgh q1w2e3r4t5y6u7i8 q1w2e3r4t5y6u7i8o9p0 a1b2c3d4e5f6g7h8 aabbccddeeffgghh
"""
_SENTENCES = """
correcthorsebatterystaple letmeinletmein letmeinpleasenow iloveyouiloveyou iloveyousomuch iloveyouforever
trustnooneever passwordpassword thisismypassword thisisapassword thisisthepassword mypasswordispassword
mysecretpassword mysupersecretpassword supersecretpassword secretpassword123 verysecretpassword
notmypassword123
changemechangeme changemeplease123 pleasechangeme123 changethispassword defaultpassword123 temporarypassword
temporarypassword1 administrator123 administratoradministrator adminadminadmin rootrootrootroot
testtesttesttest
testpassword123 welcomewelcome1 welcome123welcome123 welcometothejungle footballfootball baseballbaseball
princessprincess sunshinesunshine superman123superman dragondragondragon monkeymonkeymonkey masterofpuppets
tobeornottobethatisthequestion thequickbrownfox thequickbrownfoxjumpsoverthelazydog maytheforcebewithyou
opensesameopensesame jesuschristislord ihavenopassword idontknowmypassword nopasswordneeded
"""
_WORDS = (
    "password",
    "passw0rd",
    "p@ssword",
    "p@ssw0rd",
    "qwerty",
    "admin",
    "welcome",
    "letmein",
    "iloveyou",
    "secret",
)
_TAILS = (
    "1234567",
    "12345678",
    "123456789",
    "1234567890",
    "12345678910",
    "0123456789",
    "20242025",
    "20252026",
    "!@#$%^&*()",
)


def is_common(password: str) -> bool:
    """Whether everybody tries it: on the list, one character or short word repeated, or digits that count."""
    plain = "".join(each for each in password.casefold() if each not in " -_.")
    return plain in _COMMON or _repeats(plain) or _counts(plain)


def _repeats(text: str) -> bool:
    """Made of one to four characters said again and again."""
    return any(text == (text[:size] * len(text))[: len(text)] for size in range(1, 5))


def _counts(text: str) -> bool:
    """Each character is the one after, or before, the one to its left; 0 follows 9."""
    if not (text.isascii() and text.isdigit()):
        return False
    steps = {(ord(right) - ord(left)) % 10 for left, right in pairwise(text)}
    return len(steps) <= 1


_COMMON = frozenset(
    {*_WALKS.split(), *_SENTENCES.split(), *(word + tail for word, tail in product(_WORDS, _TAILS))}
)
