"""The dashboard: pages for people, over the same engine as the API, and with the API's rules.

    mounting.py   NiceGUI inside of the application: started when it is needed, behind a strict content policy
    desk.py       what a page works with: the engine to look at, and the API to change anything
    frame.py      what all pages have: title, navigation, search, dark and light, shortcuts
    parts.py      what pages are made of: badges, times, tables, cards, questions before an action
    login.py      the way in for browsers, where tokens are needed
    assets/       the style sheet and the script; nothing is loaded from elsewhere

A page reads from the engine directly. Whatever it changes goes through `Desk.send`, which is a request to the API like
any other: the same roles, the same audit log, the same errors. What a run or a user has written is shown as text.
"""
