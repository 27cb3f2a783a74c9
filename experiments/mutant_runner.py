from dataclasses import dataclass
@dataclass(frozen=True)
class Mutant:
    file: str
    function: str
    lines: tuple[int, int]
    before: str
    after: str
    source: str
    key: str
