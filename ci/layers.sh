#!/usr/bin/env bash
# Checks the arrows of docs/ARCHITECTURE.md by #include, nm and ldd. Prints every violation.
# usage: ci/layers.sh [BUILD_DIR]
set -u
cd "$(dirname "$0")/.." || exit 70
B=${1:-build/cc}
bad=0
say() { echo "not ok - layers: $*"; bad=1; }

includes() { grep -hoE '^#include "[^"]+"' "$1" | sed 's/#include "//;s/"$//'; }
foreign() { grep -hoE '^#include <[^>]+>' "$1" | sed 's/#include <//;s/>$//'; }
sources() { git ls-files 'orchestrator/*.[ch]' 'workers/*.[ch]' 'include/*.h'; }

where() { # header name as written in file $2 -> its path in the tree
	local d
	for d in "$(dirname "$2")" include workers workers/common workers/kernels workers/model \
		orchestrator; do
		[ -f "$d/$1" ] && { echo "$d/$1"; return; }
	done
}
# 1. Rooms: who may include whom, by the folder of the header.
allowed() { # room of the includer, room of the included, its path
	case "$1>$2" in
	*'>include' | *'>workers/common') true ;;
	'workers>workers/'*) true ;;
	'workers/model>workers/kernels') true ;;
	'workers/serve>workers/model') case $3 in */gguf.h | */template.h) true ;; *) false ;; esac ;;
	'workers/engines>workers/serve') true ;;
	'workers/engines>workers/kernels' | 'workers/engines>workers/model') true ;;
	# the format and text parts of workers/model serve commands too, never its arithmetic
	'orchestrator/'*'>workers/model') case $3 in
		*/gguf*.h | */tokenizer*.h | */template*.h | */fixtures.h | */inspect.h | */weights.h) true ;; *) false ;; esac ;;
	'orchestrator/'*'>workers/kernels') case $3 in */weight_type.h) true ;; *) false ;; esac ;;
	'orchestrator/report>orchestrator/verdict') true ;;
	'orchestrator/sweep>orchestrator/verdict' | 'orchestrator/sweep>orchestrator/report') true ;;
	'orchestrator/sweep>orchestrator/provision') case $3 in */reference.h | */embed.h) true ;; *) false ;; esac ;;
	'orchestrator/provision>workers/engines') case $3 in */reference_build.h) true ;; *) false ;; esac ;;
	'orchestrator/provision>orchestrator/sweep') case $3 in */client.h | */child.h) true ;; *) false ;; esac ;;
	'orchestrator/sweep>workers/serve') case $3 in */channel.h) true ;; *) false ;; esac ;;
	'orchestrator/cli>orchestrator/'* | 'orchestrator>orchestrator/'*) true ;;
	*) [ "$1" = "$2" ] ;;
	esac
}
for f in $(sources); do
	for h in $(includes "$f"); do
		case $h in build_id.h | embedded*.h | llama.h | ggml*.h) continue ;; esac
		t=$(where "$h" "$f")
		[ -z "$t" ] && { say "$f includes $h, which is nowhere"; continue; }
		allowed "$(dirname "$f")" "$(dirname "$t")" "$t" || say "$f must not include $t"
	done
done

# 2. Foreign headers at the edge: each in few named files, uv only where loops live.
edge() { # header, file
	case "$1 $2" in
	*' orchestrator/cli/version.c') true ;;
	'uv.h orchestrator/main.c' | 'uv.h orchestrator/cli/term'*) true ;;
	'uv.h orchestrator/sweep/'*) true ;;
	'uv.h orchestrator/provision/fetch'* | 'uv.h orchestrator/provision/process'*) true ;;
	'git2.h orchestrator/provision/clone'*) true ;;
	'curl/'*' orchestrator/provision/fetch'*) true ;;
	'archive'*' orchestrator/provision/unpack'* | 'archive'*' orchestrator/report/recording'*) true ;;
	'openssl/'*' workers/common/digest.c' | 'openssl/'*' orchestrator/report/sign'*) true ;;
	'openssl/'*' orchestrator/provision/digest'*) true ;;
	'jansson.h orchestrator/'* | 'jansson.h workers/model/tokenizer_json'*) true ;;
	*) false ;;
	esac
}
for f in $(sources); do
	for h in $(foreign "$f"); do
		case $h in
		uv.h | git2* | curl/* | archive*.h | openssl/* | jansson.h)
			edge "$h" "$f" || say "$f includes <$h>" ;;
		esac
	done
	case $f in orchestrator/verdict/* | orchestrator/report/*)
		for h in $(foreign "$f"); do
			case $h in uv.h | git2* | curl/*) say "$f is pure and includes <$h>" ;; esac
		done ;;
	esac
done

# 3. Every header compiles alone.
for h in $(git ls-files 'include/*.h' 'orchestrator/*.h' 'workers/*.h'); do
	case $h in *_template.h | *_inner.h) [ "$(dirname "$h")" = workers/kernels ] && continue ;; esac
	# these need a reference's own headers
	case $h in */llama_api.h | */llama_engine.h) continue ;; esac
	echo "#include \"$h\"" | ${CC:-cc} -std=c11 -D_GNU_SOURCE -fsyntax-only -x c -I. -Iinclude \
		-Iworkers -Iworkers/common -Iworkers/kernels -Iworkers/model -Iorchestrator - 2>/dev/null ||
		say "$h does not compile alone"
done

# 4. Commands never call each other.
for f in $(git ls-files 'orchestrator/cli/*.c'); do
	[ "$f" = orchestrator/cli/commands.c ] && continue
	own=$(grep -hoE 'const struct command cmd_[a-z_0-9]+' "$f" | sed 's/.* //' | sort -u | tr '\n' ' ')
	for used in $(grep -hoE '\bcmd_[a-z_0-9]+' "$f" | sort -u); do
		case " $own" in *" $used "*) ;; *) say "$f uses another command's $used" ;; esac
	done
done

# 5. The worker links no network, no loop, no git; the orchestrator no inference core.
if [ -x "$B/assay-worker" ]; then
	for lib in libuv libcurl libgit2 libarchive libssl; do
		ldd "$B/assay-worker" 2>/dev/null | grep -q "$lib\." && say "assay-worker links $lib"
	done
	nm -D --undefined-only "$B/assay-worker" 2>/dev/null | grep -qE ' (socket|connect|getaddrinfo)@' &&
		say "assay-worker calls the network"
fi
if [ -x "$B/assay" ]; then
	nm "$B/assay" 2>/dev/null | grep -qE ' [TtDd] (engine_native|engine_oracle|forward_|kernels_init)' &&
		say "assay links the inference core"
fi
[ $bad -eq 0 ] && echo "ok - layers: all arrows point one way"
exit $bad
