from plugins.module_utils.bmc_nodes import *
