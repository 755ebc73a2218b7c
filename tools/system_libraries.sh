#!/usr/bin/env bash
# The system libraries that Qt and OpenGL need, and a virtual screen for machines without a display. Installs what is missing where
# it may (root, or sudo without a password, on Debian and Ubuntu); otherwise says what is missing and goes on.
set -euo pipefail

packages=(
    xvfb xauth libgl1 libgl1-mesa-dri libegl1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1
    libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libdbus-1-3 libfontconfig1
)

[ "$(uname)" = Linux ] || exit 0

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    command -v xvfb-run >/dev/null || echo "note: xvfb-run is not installed; without a display no window can be shown or tested"
    exit 0
fi

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ]; then
    as_root=()
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
else
    echo "note: these system libraries are missing; the window may not open until they are installed:"
    echo "    sudo apt-get install ${missing[*]}"
    exit 0
fi

echo "installing system libraries: ${missing[*]}"
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}")
if ! "${install[@]}" >/dev/null 2>&1; then
    "${as_root[@]}" apt-get update -qq >/dev/null 2>&1 || true
    "${install[@]}" >/dev/null || {
        echo "note: apt-get could not install them; the window may not open until they are there: ${missing[*]}"
    }
fi
