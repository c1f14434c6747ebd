"""The lab's calendar as a web page with a JSON API; imported by `perfci lab serve` alone."""
