# Sourced by every bin/NAME, with $self its real path and $extras empty or "test".
# Sets $checkout and $python (the one in CHECKOUT/.venv), which is made or mended when need be.
# The usual case starts no process.  bin/.prepare.py does the rest and says what the stamp means.

checkout=${self%/bin/*}
python=$checkout/.venv/bin/python
extras=${extras:-}

ready() {
    stamp=$checkout/.venv/.godwit
    [ -s "$stamp" ] && [ -x "$python" ] || return 1
    # The stamp has the time of the setup.cfg it was made for: newer or older, that has changed.
    if [ "$checkout/setup.cfg" -nt "$stamp" ] || [ "$checkout/setup.cfg" -ot "$stamp" ]; then
        return 1
    fi
    { IFS= read -r of && IFS= read -r with && IFS= read -r by; } <"$stamp" || return 1
    [ "$of" = "checkout $checkout" ] || return 1
    [ -z "$extras" ] || [ "$with" = "extras $extras" ] || return 1
    [ -z "${GODWIT_PYTHON:-}" ] || [ "$by" = "python $GODWIT_PYTHON" ]
}

# Prints the first Python 3.11 or newer; the one that GODWIT_PYTHON names or none.
find_python() {
    if [ -n "${GODWIT_PYTHON:-}" ]; then
        set -- "$GODWIT_PYTHON"
    else
        set -- python3 python3.14 python3.13 python3.12 python3.11
    fi
    for found in "$@"; do
        if "$found" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$found"
            return
        fi
    done
    if [ -n "${GODWIT_PYTHON:-}" ]; then
        echo "godwit: GODWIT_PYTHON=$GODWIT_PYTHON is no Python 3.11 or newer" >&2
    else
        echo "godwit: needs Python 3.11 or newer; none found on PATH" \
            "(apt-get install python3, or name one in GODWIT_PYTHON)" >&2
    fi
    return 1
}

if ! ready; then
    found=$(find_python) || exit 1
    "$found" -I "$checkout/bin/.prepare.py" "$extras" || exit
fi
