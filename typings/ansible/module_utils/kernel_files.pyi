from plugins.module_utils.kernel_files import *
