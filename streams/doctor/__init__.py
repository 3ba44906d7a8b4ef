"""The performance guide's checklists, made executable: it looks at the live system and changes nothing.

One check is one function in a module of its server's folder; `streams.doctor.checks` knows all of them,
`streams.doctor.examination` runs them.
"""
