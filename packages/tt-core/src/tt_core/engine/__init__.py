"""The engine of the framework: dispatch, plugins, hook specifications, errors, files, threads and memory.

None of it is a module of the journey. Read `dispatch` and `plugins` first; `hookspecs` lists what a plugin can answer.
"""
