from plugins.module_utils.addresses import *
