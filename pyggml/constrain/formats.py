"""What "format" means in a schema: keywords of our own where the parser's reading is wider than the format, else its
name.
"""

from __future__ import annotations

from typing import Any

_YEAR = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_LEAP = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_LONG = "(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
_DAYS = f"(?:{_LONG}|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
_DATE = f"(?:{_YEAR}-{_DAYS}|{_LEAP}-02-29)"
_CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = f"{_CLOCK}:[0-5][0-9](?:[.][0-9]{{3}}(?:[0-9]{{3}})?)?(?:Z|[+-]{_CLOCK})"
_A, _X = "[a-zA-Z0-9]", "[a-zA-Z0-9-]"
_LABEL = f"{_A}(?:{_A}|{_X}{_A}|{_X}{_X}{_A}|{_X}(?:{_A}{_X}|-{_A}){_X}{{0,58}}{_A})?"  # -- third marks a coded one

OWN: dict[str, dict[str, Any]] = {
    "date": {"pattern": f"^{_DATE}$"},
    "time": {"pattern": f"^{_TIME}$"},
    "date-time": {"pattern": f"^{_DATE}T{_TIME}$"},
    "hostname": {"pattern": f"^{_LABEL}(?:[.]{_LABEL})*$", "maxLength": 253},
}
NAMES = ("duration", "email", "ipv4", "ipv6", "uuid", "uri")
KNOWN = (*OWN, *NAMES)
