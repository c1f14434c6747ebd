"""Ansible module: a setting of the kernel that is a file, or the same file for each CPU; read back after it was written."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kernel_files import NOT_AVAILABLE, outcome

DOCUMENTATION = r"""
module: kernel_setting
short_description: A setting of the kernel, read back after it was written
description:
  - Virtual machines and containers lack many settings. That is no failure of this module, but an outcome.
options:
  files:
    description: Patterns of files below /sys or /proc; the first one that matches anything counts.
    type: list
    elements: str
    required: true
  value: {description: "What shall be in all of them; empty: they are left as they are", type: str, required: true}
  same_as: {description: Values that are as good., type: list, elements: str, default: []}
  some: {description: "Whether files that refuse the value are passed over, as long as one takes it", type: bool, default: false}
  missing: {description: Why the files may be missing., type: str, required: true}
attributes:
  check_mode:
    support: full
    details: Whether the kernel takes a value shows only when it is written; here it counts as taken.
  diff_mode: {support: full}
author: [perfci]
"""
EXAMPLES = r"""
- kernel_setting:
    files: [/sys/devices/system/cpu/cpufreq/policy*/scaling_governor]
    value: performance
    missing: the firmware controls the frequency
"""
RETURN = r"""
setting:
  description: C(state) is C(in effect), C(left alone) or C(not available), with the C(value) found, or with C(why).
  returned: always
  type: dict
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "str", "required": True},
            "value": {"type": "str", "required": True},
            "same_as": {"type": "list", "elements": "str", "default": []},
            "some": {"type": "bool", "default": False},
            "missing": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        setting, diff = outcome(module.params, check=module.check_mode)
    except OSError as error:  # there, but not to be read: as good as missing
        why = f"{error.filename}: {error.strerror}"
        setting, diff = {"state": NOT_AVAILABLE, "why": why}, {"before": "", "after": ""}
    module.exit_json(changed=diff["before"] != diff["after"], setting=setting, diff=diff)


if __name__ == "__main__":
    main()
