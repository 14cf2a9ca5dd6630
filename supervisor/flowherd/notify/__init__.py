"""Notifications, for the server and for an agent that notifies about its own host.

kinds         what a notification can be about
rules         which notifications go to which channels
message       a notification: its fields as JSON, and its text for people
channels      the places to which notifications go: a command, a webhook, an apprise URL
signature     the signature of a webhook's request
pace          how often a channel is used, and when a failed delivery is tried again
delivery      one thread per channel, which delivers what waits in an outbox
programs      from the log of supervisord's programs to a notification
ends          from the end of a run to a notification
changes       what has changed for the worse or for the better, so that only changes are notified
thresholds    from when on, and until when, something is worth a notification
wording       the titles of notifications
file_outbox   an outbox of files, for an agent
"""
