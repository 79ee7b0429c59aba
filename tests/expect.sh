# Sourced by whole-command tests that run from the repository's root: $B the build, $A the program,
# $T a folder of its own that goes away. What a command said is in $T/out and $T/err.
B=${B:-build/cc}
A=$PWD/$B/assay
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
export -n CROSSVAL_TIMEOUT_SECS CROSSVAL_GGUF ASSAY_WIRE_LOG

check() { # description, then a command that must succeed
	local what=$1
	shift
	if "$@" >"$T/why" 2>&1; then echo "ok - $what"; else
		echo "not ok - $what"
		tail -n 20 "$T/why" "$T/err" 2>/dev/null | sed 's/^/    /'
	fi
}
exits() { # wanted code, command …
	local want=$1 got
	shift
	"$@" >"$T/out" 2>"$T/err" </dev/null
	got=$?
	[ $got -eq "$want" ] || { echo "exit $got, expected $want: $*"; cat "$T/out"; return 1; }
}
sanitized() { nm "$A" | grep -qE ' __[at]san_init$'; } # the memory of such a program is not its own
has() { grep -qF -- "$2" "$1" || { echo "no \"$2\" in $1:"; cat "$1"; return 1; }; }
lacks() { ! grep -qF -- "$2" "$1" || { echo "\"$2\" in $1:"; cat "$1"; return 1; }; }
refuses() { # name, exit code, sentence on standard error, command …
	local name=$1 code=$2 sentence=$3
	shift 3
	check "$name" refused "$code" "$sentence" "$@"
}
refused() {
	local code=$1 sentence=$2
	shift 2
	exits "$code" "$@" && has "$T/err" "$sentence" && [ ! -s "$T/out" ]
}
