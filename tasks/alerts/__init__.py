"""Alerts: from readings, commands and the clock to changes that users are told, once each and in order.

All of it is pure: no clock, no servers. `state` is what is remembered of a device and its bytes, `machine`
judges readings and silence, `manage` obeys users, `change` is what users are told, and `active` turns
states into rows of `active_alerts` and back.
"""
