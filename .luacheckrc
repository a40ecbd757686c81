-- SPDX-License-Identifier: MIT
std = 'luajit'
max_line_length = 120
files['**/spec'] = { std = '+busted' }
-- Declarations for the language server: nothing in them is used.
files['**/_meta'] = { ignore = { '212', '241' } }
