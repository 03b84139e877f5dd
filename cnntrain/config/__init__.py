"""From a YAML file and overrides to a frozen, validated config."""
