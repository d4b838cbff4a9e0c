"""The pytest plugin: fixtures for the tests of an application, and failing schedules in reports.

A package of its own, because pytest imports it in every run where this distribution is
installed, and importing anything of ``durable_core`` imports the whole of it.
"""
