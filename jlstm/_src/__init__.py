"""Private modules, which several packages of jlstm share. They may change at any time."""
