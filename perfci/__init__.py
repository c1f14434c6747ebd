"""perfci: a bare-metal CI lab for performance and large-ops testing of OpenStack."""

__version__ = "0.1.0"
