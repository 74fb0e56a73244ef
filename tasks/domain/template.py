"""Templates of MQTT topics: which topics they describe, what those name, and the filters to subscribe to.

A level is text, with names in braces: `{device}`, also beside other text as in `{app}@{tenant}` or
`switch:{output}`. `{path...}` stands for one or more levels, `{device*3}` for exactly three, and
`{kind:sensor|switch}` for one of the words. `...` comes at most once in a template, and before its end stands
for at most four levels, because MQTT has filters for a given number of levels alone.
"""

import re
from functools import cached_property

# A level with several names is compared up to this length, which bounds the work.
LONGEST_LEVEL = 512
MOST_LEVELS_INSIDE = 4

_PART = re.compile(r"\{([a-z_][a-z0-9_]*)(?:(\.\.\.)|\*([2-9])|:([^{}/+#]+))?\}")
_NAME_ALONE = re.compile(r"\(\?P<\w+>\.[*+]\)")
_ANY = re.compile(".+", re.DOTALL)
_PLAIN = re.compile(r"\{[a-z_][a-z0-9_]*\}|[^{}]*")
_LITERAL = re.compile(r"[^{}+#\x00]*")


class Template:
    """One template. Raises `TypeError` if it cannot be read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.names: tuple[str, ...] = ()
        self.several: tuple[str, ...] = ()  # those of them that may hold a slash
        self._levels: list[str | re.Pattern[str]] = []
        self._filter: list[str] = []
        self._rest: int | None = None
        for level in text.split("/"):
            self._add(level)
        if len(set(self.names)) < len(self.names):
            raise TypeError(f"a name comes twice in the topic {text}")

    @property
    def is_plain(self) -> bool:
        """Whether each level is text or one name in braces."""
        return all(_PLAIN.fullmatch(level) for level in self.text.split("/"))

    @cached_property
    def filters(self) -> tuple[str, ...]:
        """The MQTT filters of its topics."""
        return self._filters_of(self._filter)

    def _filters_of(self, levels: list[str]) -> tuple[str, ...]:
        if self._rest is None:
            return ("/".join(levels),)
        before, behind = levels[: self._rest], levels[self._rest + 1 :]
        if not behind:
            # `a/#` alone would match `a` as well.
            return ("/".join([*before, "+", "#"]),)
        return tuple(
            "/".join([*before, *["+"] * count, *behind]) for count in range(1, MOST_LEVELS_INSIDE + 1)
        )

    @cached_property
    def pattern(self) -> str:
        """The template as one regular expression, in the syntax that Python and Rust have in common.

        It is for programs that match whole topics by an expression: it does not look at `LONGEST_LEVEL`.
        """
        return "/".join(map(self._pattern_of, range(self.text.count("/") + 1)))

    @property
    def example(self) -> str:
        """A topic of the template, in which each name stands for itself."""
        return _PART.sub(
            lambda part: "/".join([part[4].split("|")[0] if part[4] else part[1]] * int(part[3] or 1)),
            self.text,
        )

    def _pattern_of(self, index: int) -> str:
        level = self.text.split("/")[index]
        pattern, at = "", 0
        for part in _PART.finditer(level):
            if part[4]:
                wanted = "|".join(map(_escape, part[4].split("|")))
            elif part[3]:
                wanted = "/".join(["[^/]+"] * int(part[3]))
            elif part[2]:
                at_end = index == self.text.count("/")
                wanted = "[^/]*(?:/[^/]*)" + ("*" if at_end else f"{{0,{MOST_LEVELS_INSIDE - 1}}}")
            else:
                wanted = "[^/]*" if part[0] == level else "[^/]+?"
            pattern += f"{_escape(level[at : part.start()])}(?P<{part[1]}>{wanted})"
            at = part.end()
        return pattern + _escape(level[at:])

    def match(self, topic: str) -> dict[str, str] | None:
        """The values of the topic by their names; None if it is not of this form."""
        levels = topic.split("/")
        if self._rest is not None:
            spare = len(levels) - len(self._levels)
            inside = self._rest < len(self._levels) - 1
            if not 0 <= spare < (MOST_LEVELS_INSIDE if inside else len(levels)):
                return None
            end = self._rest + spare + 1
            levels = [*levels[: self._rest], "/".join(levels[self._rest : end]), *levels[end:]]
        elif len(levels) != len(self._levels):
            return None
        found: dict[str, str] = {}
        for index, (expected, level) in enumerate(zip(self._levels, levels, strict=True)):
            if isinstance(expected, str):
                if level != expected:
                    return None
            elif index == self._rest:
                found[next(iter(expected.groupindex))] = level
            elif (len(level) <= LONGEST_LEVEL or expected.groups == 1) and (
                named := expected.fullmatch(level)
            ):
                found |= named.groupdict()
            else:
                return None
        return self._joined(found)

    @cached_property
    def rank(self) -> tuple[int, ...]:
        """A topic that matches two templates belongs to the one with the lower rank.

        That is the template with text at the first level where the two differ.
        """
        kinds = [
            0 if isinstance(one, str) else 2 if _NAME_ALONE.fullmatch(one.pattern) else 1
            for one in self._levels
        ]
        if self._rest is not None:
            kinds[self._rest] = 3
        return (*kinds, 4)

    def overlaps(self, other: "Template") -> bool:
        """Whether one topic can match both."""
        if self._rest is None and other._rest is not None:
            return other.overlaps(self)
        if self._rest is None:
            return len(self._levels) == len(other._levels) and _compatible(self._levels, other._levels)
        if other._rest is None:
            spare = len(other._levels) - len(self._levels)
            own = [*self._levels[: self._rest], *[_ANY] * (spare + 1), *self._levels[self._rest + 1 :]]
            return spare >= 0 and _compatible(own, other._levels)
        ends = len(self._levels) - self._rest - 1, len(other._levels) - other._rest - 1
        begin, end = min(self._rest, other._rest), min(ends)
        return _compatible(self._levels[:begin], other._levels[:begin]) and _compatible(
            self._levels[len(self._levels) - end :], other._levels[len(other._levels) - end :]
        )

    def fill(self, known: dict[str, str]) -> tuple[str, ...]:
        """The filters of the topics with these names, as narrow as MQTT allows."""
        levels: list[str] = []
        rest_known = False
        for level in self.text.split("/"):
            part = _PART.fullmatch(level)
            if part and part[1] in known:
                levels.append(known[part[1]])
                rest_known = rest_known or bool(part[2])
            elif part and part[3]:
                levels += ["+"] * int(part[3])
            else:
                filled = _PART.sub(lambda part: known.get(part[1], "+"), level)
                levels.append("+" if "+" in filled else filled)
        if self._rest is None or rest_known:
            return ("/".join(levels),)
        return self._filters_of(levels)

    def _add(self, level: str) -> None:
        parts = list(_PART.finditer(level))
        between = _PART.sub("", level)
        if not _LITERAL.fullmatch(between):
            raise TypeError(f"{level} is not a level of a topic: {{name}}, {{name...}}, {{name*2}} or text")
        if not parts:
            self._levels.append(level)
            self._filter.append(level)
            return
        several = next((part for part in parts if part[2] or part[3]), None)
        if several and several[0] != level:
            raise TypeError(f"{several[0]} must be a level of its own, in the topic {self.text}")
        if several:
            self.several += (several[1],)
        if several and several[3]:
            self.names += (several[1],)
            for number in range(int(several[3])):
                # Python's groups and the template's names have no `__` and digit in common by chance.
                self._levels.append(re.compile(f"(?P<{several[1]}__{number}>.+)", re.DOTALL))
                self._filter.append("+")
            return
        if several:
            if self._rest is not None:
                raise TypeError(f"`...` comes twice in the topic {self.text}")
            self._rest = len(self._levels)
        pattern, at = "", 0
        for part in parts:
            # An empty level matches a lone name, too: that it is not an id is found later.
            any_text = ".*" if part[0] == level else ".+?"
            wanted = "|".join(map(re.escape, part[4].split("|"))) if part[4] else any_text
            pattern += f"{re.escape(level[at : part.start()])}(?P<{part[1]}>{wanted})"
            at = part.end()
            self.names += (part[1],)
        self._levels.append(re.compile(pattern + re.escape(level[at:]), re.DOTALL))
        self._filter.append("+")

    @staticmethod
    def _joined(found: dict[str, str]) -> dict[str, str]:
        joined: dict[str, str] = {}
        for name, level in found.items():
            base = name.rpartition("__")[0] if name[-3:-1] == "__" and name[-1].isdigit() else name
            joined[base] = f"{joined[base]}/{level}" if base in joined else level
        return joined


def _escape(text: str) -> str:
    """The text as an expression, without quotes and control characters, which a configuration cannot hold."""
    return "".join(
        re.escape(one) if one.isprintable() and one != "'" else f"\\U{ord(one):08x}" for one in text
    )


def _compatible(levels: list[str | re.Pattern[str]], others: list[str | re.Pattern[str]]) -> bool:
    return all(map(_can_be_equal, levels, others))


def _can_be_equal(one: str | re.Pattern[str], other: str | re.Pattern[str]) -> bool:
    if isinstance(one, str):
        return one == other if isinstance(other, str) else other.fullmatch(one) is not None
    return one.fullmatch(other) is not None if isinstance(other, str) else True


def filter_covers(wide: str, narrow: str) -> bool:
    """Whether each topic of the narrow filter matches the wide one."""
    left, right = wide.split("/"), narrow.split("/")
    for index, level in enumerate(left):
        if level == "#":
            return True
        if index >= len(right) or right[index] == "#" or (level not in {"+", right[index]}):
            return False
    return len(left) == len(right)
