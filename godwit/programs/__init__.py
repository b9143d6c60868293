"""The programs that every node knows by name.  This module is a table only, quick to import."""

from msgspec import Struct


class Known(Struct, frozen=True):
    """``where`` is module:Class; ``takes`` its arguments, ``does`` one line for people."""

    where: str
    takes: str
    does: str


PROGRAMS = {
    "CopyProcess": Known(
        "godwit.programs.copying:CopyProcess", "SIGNATURE IN OUT",
        "copies the lines of IN to OUT, each with its number and SIGNATURE",
    ),
    "CountProcess": Known(
        "godwit.programs.counting:CountProcess", "N [PAUSE]",
        "prints 0 to N, one a line, each PAUSE seconds (1)",
    ),
    "Factorial": Known(
        "godwit.programs.factorial:Factorial", "N OUT", "writes N! to OUT",
    ),
    "GrepProcess": Known(
        "godwit.programs.grepping:GrepProcess", "PATTERN IN OUT",
        "writes the lines of IN that match PATTERN, a regular expression, to OUT",
    ),
    "StatProcess": Known(
        "godwit.programs.stating:StatProcess", "LINES OUT",
        "writes so many lines to OUT, one each 300 ms: host name and UTC time",
    ),
}
