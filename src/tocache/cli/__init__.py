"""The command line: arguments in, text out; every command is a function of the package first."""
