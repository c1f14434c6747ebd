from plugins.module_utils.lab_processes import *
