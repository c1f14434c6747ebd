"""A BMC simulator: IPMI 2.0 over LAN (RMCP+), cipher suites 3 and 17, written from the specification.

References such as "20.1" or "table 13-15" are to *IPMI Specification, V2.0, Rev. 1.1*.
"""

from perfci.lab.virtual.ipmi.boot import BootFlags
from perfci.lab.virtual.ipmi.faults import Faults, Remedy
from perfci.lab.virtual.ipmi.server import VirtualBmc
from perfci.lab.virtual.ipmi.sessions import SessionLimits
from perfci.lab.virtual.ipmi.sol import SolConsole

__all__ = ["BootFlags", "Faults", "Remedy", "SessionLimits", "SolConsole", "VirtualBmc"]
