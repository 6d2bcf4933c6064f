"""The lecture's regression example: tomorrow's temperature from today's weather."""
