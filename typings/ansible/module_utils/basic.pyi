"""What the modules in plugins/ use of Ansible, which ships no types."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

class AnsibleModule:
    params: dict[str, Any]
    check_mode: bool
    def __init__(
        self,
        argument_spec: Mapping[str, Mapping[str, Any]],
        *,
        supports_check_mode: bool = ...,
        mutually_exclusive: Sequence[Sequence[str]] = ...,
        required_if: Sequence[Sequence[Any]] = ...,
        required_one_of: Sequence[Sequence[str]] = ...,
        required_together: Sequence[Sequence[str]] = ...,
    ) -> None: ...
    def exit_json(self, **result: Any) -> NoReturn: ...
    def warn(self, warning: str) -> None: ...
    def fail_json(self, msg: str, **result: Any) -> NoReturn: ...

def missing_required_lib(library: str) -> str: ...
