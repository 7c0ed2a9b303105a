"""Redeliver, reprocess and resolve leads.

`lead_actions` changes one lead. A bulk action does the same for many: `selection` decides which leads are eligible,
`creation` stores the bulk action with its leads, and `processing` works through them.
"""
