"""Simulated devices: many real MQTT 5 connections in one process, for the load tester and the live view."""
