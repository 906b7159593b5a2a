"""The engine at ten thousand to a million items: the engines it is compared with, cells of measurements, reports."""
