"""One module a verb of the command line, each with a click command named ``command``. They are imported when they are called."""
