from plugins.module_utils.smbios import *
