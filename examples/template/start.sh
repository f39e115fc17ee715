#!/bin/sh
# Put a driver's name in the place of "changeme", in file names and in files; then this script removes itself.
set -eu
name=${1:?"usage: sh start.sh NAME, the name of your driver: lower-case letters and digits"}
case $name in *[!a-z0-9]* | [0-9]*) echo "start.sh: $name: lower-case letters and digits, a letter first" >&2; exit 2 ;; esac
cd "$(dirname "$0")"
class=$(printf %s "$name" | cut -c1 | tr a-z A-Z)$(printf %s "$name" | cut -c2-)
mv pyproject.toml.in pyproject.toml
mv layerstore_changeme "layerstore_$name"
sed -i "1d; s/changeme/$name/g; s/Changeme/$class/g; s/CHANGEME/$name/g" pyproject.toml
sed -i "s/changeme/$name/g; s/Changeme/$class/g; s/CHANGEME/$name/g" "layerstore_$name/__init__.py" tests/test_conformance.py
printf '# layerstore-driver-%s\n\nA storage driver for layerstore.\n' "$name" > README.md
rm start.sh
