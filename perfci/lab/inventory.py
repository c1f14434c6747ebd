"""The nodes of a lab and their BMCs, from its Ansible inventory."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, SecretStr, ValidationError

from perfci.config import Port, SecretUnreadable
from perfci.lab.bmc.base import (
    DEFAULT_CIPHER_SUITE,
    DEFAULT_PORT,
    DEFAULT_POWER_SECONDS,
    BmcProtocol,
    Target,
    plain_address,
)
from perfci.lab.bmc.errors import BmcUnknown
from perfci.lab.errors import InventoryInvalid, VirtualInventoryMissing
from perfci.lab.model import Node
from perfci.parsing import NotReadable, json_value
from perfci.validation import faults, quote_it

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

GROUP = "nodes"
"""The inventory group whose hosts can be reserved; an inventory without it means all its hosts."""
CLOUD = "cloud"
"""The inventory group on whose hosts clouds are deployed."""
VIRTUAL = "virtual"
"""The lab of `perfci virtual up`, which writes its nodes. They are reached from within its network."""
BMC = "bmc_address"
"""The variable that a host with a BMC has."""
LABELS = "node_labels"
"""The variable with a node's labels: a mapping from names to texts."""
FACTS = "node_facts"
"""The variable with what `perfci lab inspect` found; a label of the same name counts more."""
TIMEOUT_SECONDS = 60
LONGEST_USERNAME, LONGEST_PASSWORD = 16, 20
"""In bytes; no BMC takes more over IPMI (IPMI v2.0, 22.29 and 22.30)."""
_MARK = "perfci-bmc:"
_SSH = (
    "ansible_host",
    "ansible_port",
    "ansible_user",
    "ansible_ssh_private_key_file",
    "ansible_ssh_common_args",
)
_SSH_OPTIONS = {"ansible_ssh_private_key_file": "-i", "ansible_port": "-p", "ansible_user": "-l"}


def nodes(folder: Path) -> tuple[Node, ...]:
    """Return the nodes of the inventory, sorted by name. Raises InventoryInvalid."""
    if not folder.exists():
        others = sorted(path.name for path in folder.parent.glob("*") if path.is_dir())
        there = f"; there are: {', '.join(others)}" if others else ""
        raise InventoryInvalid(folder=folder, group=GROUP, reason=f"it does not exist{there}")
    if folder.name == VIRTUAL and not any(path.is_file() for path in folder.iterdir()):
        raise VirtualInventoryMissing(folder=folder)
    groups = _listed(folder)
    # A group without hosts is listed only as a child of another.
    known = {*groups, *(child for group in groups.values() for child in group.get("children", ()))}
    names = _hosts(groups, GROUP if GROUP in known else "all")
    if not names:
        raise InventoryInvalid(folder=folder, group=GROUP, reason="it has no nodes")
    variables = groups.get("_meta", {}).get("hostvars", {})
    cloud = _hosts(groups, CLOUD)
    return tuple(
        Node(
            name,
            has_bmc=BMC in variables.get(name, {}),
            in_cloud=name in cloud,
            labels={
                label: text
                for variable in (FACTS, LABELS)
                for label, text in _labels(folder, name, variable, variables.get(name, {}).get(variable, {}))
            },
        )
        for name in sorted(names)
    )


def targets(folder: Path, names: Sequence[str]) -> tuple[Target, ...]:
    """Return how the BMCs of these nodes are reached, in the order of the names.

    Ansible itself resolves the variables, so they may be plain, templates, lookups or encrypted by Vault
    (its password comes from where Ansible looks for it: ANSIBLE_VAULT_PASSWORD_FILE or ansible.cfg); or
    `bmc_password_file` names a file, relative to the inventory's folder. Secrets come through a pipe.

    Raises InventoryInvalid, BmcUnknown, SecretUnreadable.
    """
    return tuple(_target(folder, found) for found in _resolved(folder, names, _Variables.model_fields))


def _text(value: object) -> object:
    """Refuse what is no text. The value is not repeated: it may be a part of a secret."""
    if value is not None and not isinstance(value, str):
        raise ValueError(quote_it(value))
    return value


_URL = r"^https?://[^/@\s]+$"
_Text = Annotated[str, BeforeValidator(_text)]


class _Variables(BaseModel):
    """The variables of a node that say how its BMC is reached."""

    bmc_address: Annotated[_Text, Field(min_length=1)]
    bmc_username: _Text
    bmc_password: Annotated[SecretStr, BeforeValidator(_text)] | None = None
    bmc_password_file: Annotated[Path, BeforeValidator(_text)] | None = None
    bmc_port: Port = DEFAULT_PORT
    bmc_cipher_suite: Literal[3, 17] = DEFAULT_CIPHER_SUITE
    bmc_power_seconds: Annotated[float, Field(gt=0)] = DEFAULT_POWER_SECONDS
    bmc_protocol: BmcProtocol = BmcProtocol.IPMI
    bmc_redfish_url: Annotated[str, BeforeValidator(_text), Field(pattern=_URL)] | None = None
    bmc_redfish_system: _Text | None = None
    bmc_redfish_verify: bool | str = True
    pdu_outlet: _Text | None = None
    pdu_command: _Text | None = None


def connections(folder: Path, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return for each node those of Ansible's variables that say how it is reached, as far as they are set.

    Raises InventoryInvalid.
    """
    return {
        str(one["node"]): {name: str(one[name]) for name in _SSH if one[name]}
        for one in _resolved(folder, names, _SSH)
    }


def ssh_arguments(folder: Path, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return for each node the arguments with which ssh reaches it as Ansible does.

    Raises InventoryInvalid.
    """
    found = {}
    for node, one in connections(folder, names).items():
        try:
            arguments = shlex.split(one.get("ansible_ssh_common_args", ""))
        except ValueError as error:
            reason = f"ansible_ssh_common_args of {node}: {error}"
            raise InventoryInvalid(folder=folder, group=GROUP, reason=reason) from error
        for name, option in _SSH_OPTIONS.items():
            if name in one:
                arguments += [option, one[name]]
        found[node] = (*arguments, one.get("ansible_host", node))
    return found


def texts(folder: Path, names: Sequence[str], variables: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return by node those of these variables that are set to a text. Raises InventoryInvalid."""
    return {
        str(one["node"]): {name: one[name] for name in variables if isinstance(one[name], str) and one[name]}
        for one in _resolved(folder, names, variables)
    }


def _resolved(folder: Path, names: Sequence[str], variables: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Let Ansible resolve variables of the nodes, on this machine and without connecting anywhere."""
    fields = ", ".join(f"'{name}': hostvars[node]['{name}'] | default(none)" for name in variables)
    line = f"{_MARK}{{{{ {{'node': node, {fields}}} | to_json }}}}\n"
    text = f"{{% for node in perfci_nodes %}}{line}{{% endfor %}}"
    said = _ansible(
        "ansible",
        "localhost",
        "--inventory",
        str(folder),
        "--module-name",
        "ansible.builtin.debug",
        "--args",
        json.dumps({"msg": text}),
        "--extra-vars",
        json.dumps({"perfci_nodes": list(names)}),
        folder=folder,
    )
    _, _, result = said.partition("=> ")
    try:
        yield from [json_value(line.removeprefix(_MARK)) for line in json_value(result)["msg"].splitlines()]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _unreadable(folder, "ansible", error) from error


def _target(folder: Path, found: dict[str, Any]) -> Target:
    node = found.pop("node")
    # BMCs have users without a name; everywhere else an empty text means that nothing is set.
    given = {
        name: value
        for name, value in found.items()
        if value is not None and (value != "" or name == "bmc_username")
    }
    if "bmc_address" not in given:
        raise BmcUnknown(node=node, reason="its bmc_address is not set")
    try:
        variables = _Variables(**given)
    except ValidationError as error:
        wrong = "; ".join(f"{fault.place}: {fault.message}" for fault in faults(error, _Variables))
        raise BmcUnknown(node=node, reason=wrong) from error
    password = _password(folder, node, variables)
    for name, text, most in (
        ("bmc_username", variables.bmc_username, LONGEST_USERNAME),
        ("bmc_password", password, LONGEST_PASSWORD),
    ):
        too_long = len(text.encode(errors="surrogatepass")) > most
        if too_long and variables.bmc_protocol is not BmcProtocol.REDFISH:
            reason = f"{name} is longer than {most} bytes, which no BMC takes over IPMI"
            raise BmcUnknown(node=node, reason=reason)
    return Target(
        node=node,
        address=plain_address(variables.bmc_address),
        port=variables.bmc_port,
        username=variables.bmc_username,
        password=password,
        cipher_suite=variables.bmc_cipher_suite,
        power_seconds=variables.bmc_power_seconds,
        outlet=variables.pdu_outlet,
        outlet_command=variables.pdu_command,
        protocol=variables.bmc_protocol,
        redfish_url=variables.bmc_redfish_url,
        redfish_system=variables.bmc_redfish_system,
        redfish_verify=_authority(folder, variables.bmc_redfish_verify),
    )


def _authority(folder: Path, verify: bool | str) -> bool | str:  # noqa: FBT001 - a setting
    """Return the file with the certificate authority, which is relative to the inventory's folder."""
    return verify if isinstance(verify, bool) else str(folder / verify)


def _password(folder: Path, node: str, variables: _Variables) -> str:
    if variables.bmc_password is not None:
        return variables.bmc_password.get_secret_value()
    if variables.bmc_password_file is None:
        raise BmcUnknown(node=node, reason="neither bmc_password nor bmc_password_file is set")
    file = folder / variables.bmc_password_file
    setting = f"bmc_password_file of {node}"
    try:
        secret = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:  # a name with a NUL byte is a ValueError, too
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise SecretUnreadable(setting=setting, file=file, reason=reason) from error
    if not secret:
        raise SecretUnreadable(setting=setting, file=file, reason="it is empty")
    return secret


def _labels(folder: Path, node: str, variable: str, given: object) -> Iterator[tuple[str, str]]:
    """Yield a node's labels. Raises InventoryInvalid: `rack: 03` is the number 3 by the time it is read."""
    if not isinstance(given, dict):
        raise InventoryInvalid(folder=folder, group=GROUP, reason=f"{variable} of {node}: expected a mapping")
    for name, value in given.items():
        if not isinstance(value, str):
            reason = f"{variable} of {node}: {name}: {quote_it(value)}"
            raise InventoryInvalid(folder=folder, group=GROUP, reason=reason)
        yield str(name), value


def _listed(folder: Path) -> dict[str, Any]:
    """Return what `ansible-inventory --list` prints; an inventory that can't be parsed is an error there."""
    name = "ansible-inventory"
    try:
        groups = json_value(_ansible(name, "--list", "--inventory", str(folder), folder=folder))
    except NotReadable as error:
        raise _unreadable(folder, name, error) from error
    if not isinstance(groups, dict):
        raise _unreadable(folder, name, "no object")
    return groups


def _unreadable(folder: Path, program: str, reason: object) -> InventoryInvalid:
    """Return the error for what a plugin printed among what Ansible prints, say."""
    return InventoryInvalid(folder=folder, group=GROUP, reason=f"{program} gives no JSON: {reason}")


def _ansible(name: str, *arguments: str, folder: Path) -> str:
    """Return what one of Ansible's programs prints. Raises InventoryInvalid."""
    program = Path(sys.executable).with_name(name)
    environment = {
        **os.environ,
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
        "ANSIBLE_NOCOLOR": "true",
        # Whatever ansible.cfg says: in a form that can be read, and nothing of it in a log.
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "ANSIBLE_LOG_PATH": os.devnull,
    }
    try:
        done = subprocess.run(
            [str(program), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InventoryInvalid(folder=folder, group=GROUP, reason=f"{program.name}: {error}") from error
    if done.returncode:
        reason = _reason(done.stderr) or _failure(done.stdout) or f"{name} failed without a word"
        raise InventoryInvalid(folder=folder, group=GROUP, reason=reason)
    return done.stdout


def _reason(stderr: str) -> str:
    """Return Ansible's own words for the error, in one line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("[ERROR]", "ERROR"))]
    return " ".join(told or lines[-1:])


def _failure(stdout: str) -> str:
    """Return what a task that failed said, in one line."""
    try:
        return " ".join(str(json_value(stdout.partition("=> ")[2])["msg"]).split())
    except (ValueError, KeyError):
        return ""


def _hosts(groups: dict[str, Any], name: str) -> set[str]:
    group = groups.get(name, {})
    return set(group.get("hosts", ())).union(*(_hosts(groups, child) for child in group.get("children", ())))
