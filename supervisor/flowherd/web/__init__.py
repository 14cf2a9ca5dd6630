"""What the pages of the server and of an agent share: templates, style sheet, marks, drawings, forms.

- `environment`: renders a template; jinja2 is imported with the first page
- `formats`: durations, sizes, numbers and times as text
- `marks`: the tone, glyph and word of a state
- `drawings`: bars, curves, strips and day charts as SVG without inline style
- `terminal_text`, `log_rows`: a line of a log as a terminal would show it, and the rows of a log
- `curve`, `process_rows`: memory and CPU of a run over time, and its processes as a tree
- `shown_values`: parameters without their secrets
- `static`: style sheet, script and icon, with the address of this release's version
- `policy`: the headers of every page
- `form_tokens`: the token in each form

Knows neither server nor agent.
"""
