from plugins.module_utils.whole_files import *
