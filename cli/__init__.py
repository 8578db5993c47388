"""The command line, installed as `mrigen_cli`: one thin file a verb; parse, call the library, print."""
