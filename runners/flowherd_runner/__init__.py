"""The child side of flowherd: fork server, runner and flow process, in the interpreter that a flow needs.

Standard library only, grammar of Python 3.7, nothing of it installed there: boot.py loads this package from its files.
"""

import os

PACKAGE_DIRECTORY = os.path.dirname(os.path.abspath(__file__))
#: The program that loads this package into an interpreter; run by absolute path.
BOOT_FILE = os.path.join(PACKAGE_DIRECTORY, "boot.py")
