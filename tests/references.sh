#!/usr/bin/env bash
# References from clone to installed worker, with a small CMake project and a submodule made here as
# git repositories: drift, hostile repositories, every known build failure, kill -9 at each stage,
# two builders at once, a full disk, and git http-backend behind nginx. The project builds a real
# library and loads no model, so its self-check fails and its builds end with 5 where all is well.
set -u
. tests/expect.sh
SRC=$PWD/tests/reference
export HOME=$T/home ASSAY_CACHE=$T/cache ASSAY_REFERENCES_LOCK=$T/lock.json ASSAY_CCACHE=0
unset BITNET_CPP_DIR LLAMA_CPP_DIR CC CXX XDG_CACHE_HOME
PATH=$(tr : '\n' <<<"$PATH" | grep -v ccache | paste -sd:)	# compilers themselves, not their wrappers
export -n BITNET_CPP_REPO BITNET_CPP_REV
mkdir -p "$HOME"
git config --global user.name t
git config --global user.email t@example.org
git config --global protocol.file.allow always
git config --global init.defaultBranch main

says() { has "$T/err" "$1"; }

# ---- the repositories -----------------------------------------------------------------------
cp -r "$SRC/sub" "$T/sub"
git -C "$T/sub" init -q && git -C "$T/sub" add . && git -C "$T/sub" commit -qm sub
SUB=$(git -C "$T/sub" rev-parse HEAD)
mkdir "$T/root"
cp -r "$SRC/CMakeLists.txt" "$SRC/include" "$SRC/src" "$T/root"
R="git -C $T/root"
$R init -q && $R submodule add -q "$T/sub" 3rdparty/sub && $R add . && $R commit -qm root
GOOD=$($R rev-parse HEAD)
TREE=$($R rev-parse 'HEAD^{tree}')
entries=()
entry() { # name, commit, further fields of the entry as JSON text
	entries+=("{\"name\":\"$1\",\"kind\":\"llama.h\",\"summary\":\"tiny\",\"url\":\"${URL:-$T/root}\",
		\"commit\":\"$2\",\"submodules\":[${SUBMODULES-{\"path\":\"3rdparty/sub\",
		\"url\":\"$T/sub\",\"commit\":\"$SUB\"\}}],\"target\":\"llama\",\"library\":\"llama\",
		\"include\":\"include\",\"compilers\":\"gcc clang\",\"capabilities\":[\"llama:f32\"]${3:+,$3}}")
}
write_lock() {
	local IFS=,
	printf '{"version":1,"references":[%s]}\n' "${entries[*]}" >"$T/lock.json"
}
# a commit on a branch of its own, its changes made by the command, becomes an entry of that name
fault() { # name, command …; the entry's further fields in $FIELDS
	local name=$1
	shift
	$R checkout -q -B "$name" "$GOOD"
	(cd "$T/root" && "$@") && $R add -A && $R commit -qm "$name"
	entry "$name" "$($R rev-parse HEAD)" "${FIELDS:-}"
}

entry tiny "$GOOD" "\"tree\":\"$TREE\""
fault missing-lut-header sed -i '1i #include "bitnet-lut-kernels.h"' src/ggml-bitnet-mad.cpp
fault mixed-submodule sed -i '1i #include "gemm-config.h"' src/ggml-bitnet-mad.cpp
# as in bitnet.cpp: what the patch makes of the line stands elsewhere in the file, too
without_const() {
	sed 's/const int8_t \* y_col/int8_t * y_col/' src/ggml-bitnet-mad.cpp >"$T/mad"
	sed s/tiny_dot/other_dot/ src/ggml-bitnet-mad.cpp >>"$T/mad"
	mv "$T/mad" src/ggml-bitnet-mad.cpp
}
fault missing-const without_const
fault missing-chrono sed -i 's/#include <chrono>/#include <ctime>/' src/time.cpp
undefined() {
	sed -i 's/sub_answer()/no_such_call()/' src/llama.c
	echo 'target_link_options(llama PRIVATE -Wl,--no-undefined)' >>CMakeLists.txt
}
fault undefined-reference undefined
fault no-clang sed -i '1i set(CMAKE_C_COMPILER clang-99)' CMakeLists.txt
fault no-cmake sed -i 's/VERSION 3.14/VERSION 99.1/' CMakeLists.txt
fault no-cxx-library sed -i '1i #include <cstdinteger>' src/time.cpp
die() {
	printf '#!/bin/sh\nkill -9 $$\n' >die.sh && chmod +x die.sh
	sed -i '/^add_library/i set(CMAKE_C_FLAGS "-wrapper ${CMAKE_SOURCE_DIR}/die.sh")' CMakeLists.txt
}
fault compiler-killed die
fault old-instruction-set sh -c 'cat >src/time.cpp <<X
#include <immintrin.h>
extern "C" __m256i tiny_now(__m256i a);
extern "C" __m256i tiny_now(__m256i a) { return _mm256_add_epi8(a, a); }
X
sed -i "/^add_library/i set(CMAKE_CXX_FLAGS \"-mno-avx2\")" CMakeLists.txt'
SUBMODULES="{\"path\":\"3rdparty/sub\",\"url\":\"$T/sub\",\"skip\":\"to see what happens\"}" \
	entry missing-submodule "$GOOD"

# hostile repositories
fault traversal git config -f .gitmodules submodule.3rdparty/sub.path ../../outside
fault url-command git config -f .gitmodules submodule.3rdparty/sub.url 'ext::sh -c "touch /tmp/x"'
fault url-option git config -f .gitmodules submodule.3rdparty/sub.url '--upload-pack=touch x'
fault update-command git config -f .gitmodules submodule.3rdparty/sub.update '!touch x'
fault other-url git config -f .gitmodules submodule.3rdparty/sub.url https://example.org/evil.git
fault link-out ln -s ../../../../etc/passwd src/passwd
fault filters sh -c 'echo "* filter=evil text eol=crlf ident" >.gitattributes; echo "\$Id\$" >ident.txt'
SUBMODULES="{\"path\":\"3rdparty/sub\",\"url\":\"$T/sub\",\"commit\":\"$GOOD\"}" entry sub-drift "$GOOD"
SUBMODULES="" entry sub-unknown "$GOOD"
entry drift 1111111111111111111111111111111111111111
entry tree-drift "$GOOD" '"tree":"2222222222222222222222222222222222222222"'

# slow enough at every stage to be killed there; in a repository of its own, the others stay small
cp -r "$T/root" "$T/slow"
R="git -C $T/slow"
slow() {
	head -c 16000000 /dev/urandom >blob.bin
	sed -i '/^add_library/i execute_process(COMMAND sleep 1)' CMakeLists.txt
	sed -i 's/^\tCOMMAND sh/\tCOMMAND sleep 1 COMMAND sh/' CMakeLists.txt
}
$R checkout -q "$GOOD" && (cd "$T/slow" && slow) && $R checkout -q -b slow && $R add -A && $R commit -qm slow
URL=$T/slow entry slow "$($R rev-parse HEAD)"
R="git -C $T/root"
$R checkout -q main
write_lock

# ---- it works -------------------------------------------------------------------------------
check "a reference that computes nothing fails its self-check: exit 5" exits 5 "$A" fetch-cpp tiny
check "the self-check says what the reference said" says "this tiny reference loads no model"
check "it is not used" says "it is not used"
check "the sandbox is told" says "sandbox: rlimits no-new-privs"
check "allowed explicitly: exit 0" exits 0 "$A" fetch-cpp tiny --allow-bad-reference
check "nothing had to be done again" has "$T/out" "nothing to do"
check "--explain: nothing would be made anew" exits 0 "$A" doctor --explain tiny
check "it says so" has "$T/out" "nothing changed: nothing would be made anew"
check "with the engine's own flags: exit 0" exits 0 "$A" fetch-cpp tiny --for speed --allow-bad-reference
check "--explain of that build: nothing would be made anew either" sh -c "'$A' doctor --explain tiny.speed | grep -q 'nothing changed'"
check "a run that needs it: exit 5" exits 5 "$A" logits --engine tiny --model x.gguf --prompt x
check "doctor --backend: exit 3" exits 3 "$A" doctor --backend tiny
check "no .git, no objects in the source tree" test -z "$(find "$T/cache/references/sources" \
	-name '.git' -o -name '*.pack')"
check "the manifest has commit, tree, compiler" has "$T/cache/references/by-name/tiny/manifest.json" \
	"\"commit\": \"$GOOD\""
check "what is written is the commit's tree" has "$T/cache/references/by-name/tiny/manifest.json" \
	"\"tree\": \"$TREE\""
check "nothing is left in work" test -z "$(find "$T/cache/references/work" -mindepth 1 -not -name '*.lock')"

# parts of it went: never a pass, never a crash of the worker, and fetch-cpp makes anew what is missing
gone() { # what, sentence, command that breaks it, what fetch-cpp says
	eval "$3"
	check "$1: a run that needs it ends with 3" exits 3 "$A" logits --engine tiny --model x.gguf --prompt x
	check "$1: says what and the cure" grep -qE "$2.*assay fetch-cpp tiny" "$T/err"
	check "$1: doctor calls it damaged" sh -c "'$A' doctor --fast | grep -q 'damaged: reference tiny'"
	check "$1: fetch-cpp repairs it" exits 0 "$A" fetch-cpp tiny --allow-bad-reference
	check "$1: says how" says "$4"
	check "$1: it is as before" exits 5 "$A" logits --engine tiny --model x.gguf --prompt x
}
now=$T/cache/references/by-name/tiny
libs=$(python3 -c "import json; print(json.load(open('$now/manifest.json'))['lib_dir'])")
source=$(dirname "$(ls -d "$T"/cache/references/sources/*/tree)")
gone "the worker" "its worker is gone" "rm \$now/bin/assay-worker-tiny" "is already here"
gone "a library" "libllama.so is gone" "rm \$libs/libllama.so" "the libraries here are damaged"
gone "a library's end" "libllama.so is not what it was" "truncate -s 1000 \$libs/libllama.so" "made anew"
gone "the libraries' record" "build.json is gone" "rm \$libs/../build.json" "build.json is gone"
gone "the manifest's end" "manifest.json cannot be read" "truncate -s 100 \$now/manifest.json" "is already here"
gone "a source file and the libraries" "build.json is gone" "rm -rf \${libs%/*} \$source/tree/src/llama.c" \
	"the sources here are damaged"

# what the lock says now decides, not only the commit
for part in '"options":["-DTINY=1"]@the CMake options' '"capabilities":["llama:f16"]@what it is said to compute' \
	'"files":[{"path":"src/new.h","text":"x","why":"y"}]@the generated files'; do
	python3 - "$T/lock.json" "$T/changed.json" "{${part%@*}}" <<'X'
import json, sys
lock = json.load(open(sys.argv[1]))
lock["references"] = [dict(r, **json.loads(sys.argv[3])) for r in lock["references"] if r["name"] == "tiny"]
json.dump(lock, open(sys.argv[2], "w"))
X
	export ASSAY_REFERENCES_LOCK=$T/changed.json
	check "${part#*@} of the lock changed: --explain" exits 0 "$A" doctor --explain tiny
	check "says so" has "$T/out" "the lock says otherwise than when it was built: ${part#*@}"
	check "and the build is stale" exits 3 "$A" logits --engine tiny --model x.gguf --prompt x
	check "which is said" says "was built when the lock said otherwise (${part#*@})"
done
"$A" fetch-cpp tiny --allow-bad-reference >"$T/out" 2>&1
check "made anew, nothing has changed" sh -c "'$A' doctor --explain tiny | grep -q 'nothing changed'"
export ASSAY_REFERENCES_LOCK=$T/lock.json
"$A" fetch-cpp tiny --allow-bad-reference >"$T/out" 2>&1
check "and so with the lock of before" sh -c "'$A' doctor --explain tiny | grep -q 'nothing changed'"

# recorded CPU features that this CPU lacks
sed -i 's/"cpu_features": ""/"cpu_features": "avx2 quantumavx"/' "$T"/cache/references/by-name/tiny/manifest.json
check "a CPU without a recorded feature: refused, not SIGILL" exits 3 "$A" logits --engine tiny \
	--model x.gguf --prompt x
check "the feature is named" says "quantumavx"
rm -rf "$T/cache/references/"*/manifest.json

# ---- drift and hostility --------------------------------------------------------------------
refused() { # entry, sentence [, exit code]
	check "$1: refused" exits "${3:-13}" "$A" fetch-cpp "$1"
	check "$1: says why" says "$2"
}
refused drift "commit 1111111111111111111111111111111111111111 is pinned and not there"
check "drift: names the other commit" grep -qE 'has [0-9a-f]{40}' "$T/err"
refused tree-drift "the lock says 2222222222222222222222222222222222222222"
refused sub-drift "the tree wants $SUB, the lock pins $GOOD"
refused sub-unknown "a submodule 3rdparty/sub at $SUB that the lock does not name"
refused traversal "submodule path leaves the tree"
refused url-command "submodule URL runs a helper program"
refused url-option "submodule URL is an option"
refused update-command "submodule update runs a command"
refused other-url "its URL is https://example.org/evil.git, the lock allows $T/sub"
refused link-out "link src/passwd leaves the tree"
check "--rev: another commit is taken and called so" exits 5 "$A" fetch-cpp tiny --rev filters
check "not the pinned one" says "not the pinned source"
nowhere() { # what, path, sentence
	check "$1: exit 3" exits 3 "$A" fetch-cpp drift --repo "$2"
	check "$1: says what is there" says "$3"
}
git -C "$T/root" worktree add -q "$T/worktree" "$GOOD"
: >"$T/root.bundle"
mkdir "$T/no-repository"
nowhere "a repository that is not there" "$T/nowhere" "the repository $T/nowhere cannot be reached: No such file"
nowhere "the same as file://" "file://$T/nowhere" "nowhere cannot be reached: No such file"
nowhere "a bundle" "$T/root.bundle" "git clone --bare FILE DIR"
nowhere "a folder without git" "$T/no-repository" "is no git repository: expected HEAD and objects"
nowhere "a worktree" "$T/worktree" "its repository lies elsewhere"
check "ssh URLs are refused" exits 64 "$A" fetch-cpp drift --repo ssh://example.org/x
check "http is refused but on loopback" exits 64 "$A" fetch-cpp drift --repo http://example.org/x

# hooks, filters, templates and configuration of the user have no say
mkdir -p "$T/hooks"
for h in post-checkout post-merge reference-transaction pre-auto-gc; do
	printf '#!/bin/sh\ntouch %s/hooked\n' "$T" >"$T/hooks/$h"
	chmod +x "$T/hooks/$h"
done
mkdir -p "$T/template/hooks" && cp "$T"/hooks/* "$T/template/hooks"
git config --global core.hooksPath "$T/hooks"
git config --global init.templateDir "$T/template"
git config --global filter.evil.smudge "touch $T/filtered; cat"
git config --global filter.evil.required true
git config --global core.autocrlf true
rm -f "$T/hooked"
check "a tree with filters builds as it is" exits 5 "$A" fetch-cpp filters
check "no hook ran" test ! -e "$T/hooked"
check "no filter ran" test ! -e "$T/filtered"
tree=$(ls -d "$T"/cache/references/sources/*/tree | while read -r d; do [ -e "$d/ident.txt" ] && echo "$d"; done)
check "bytes are the repository's: no CRLF, no \$Id" sh -c "! grep -q \$'\\r' '$tree/ident.txt' && grep -qxF '\$Id\$' '$tree/ident.txt'"
check "--git cli: neither hook nor filter" sh -c "rm -rf '$T/cache/references/sources' '$T/cache/references/by-name' &&
	'$A' fetch-cpp filters --git cli >/dev/null 2>'$T/err'; test \$? -eq 5 && test ! -e '$T/hooked' && test ! -e '$T/filtered'"
mkdir -p "$T/planted"
printf '#!/bin/sh\ntouch %s/planted/ran\nexec /usr/bin/git "$@"\n' "$T" >"$T/planted/git"
chmod +x "$T/planted/git"
rm -rf "$T/cache/references/sources" "$T/cache/references/by-name"
check "--git cli: in the sandbox too" exits 5 env PATH="$T/planted:$PATH" "$A" fetch-cpp filters --git cli
check "which runs no program but the system's" test ! -e "$T/planted/ran"
git config --global --unset core.hooksPath
git config --global --unset init.templateDir
git config --global --unset core.autocrlf
git config --global "url.$T/root.insteadOf" https://example.org/tiny
rm -rf "$T/cache/references/sources"
check "url.<base>.insteadOf is honoured" exits 5 "$A" fetch-cpp tiny --repo https://example.org/tiny
check "and the clone came from there" says "commit $GOOD"

# repositories written object by object, as git would not write them
hostile() { # name, exit code, sentence
	SUBMODULES="" entry "$1" "$(awk -v n="$1" '$1 == n { print $2 }' "$T/hostile.list")"
	printf '{"version":1,"references":[%s]}\n' "${entries[-1]}" >"$T/hostile.json"
	unset 'entries[-1]'
	ASSAY_REFERENCES_LOCK=$T/hostile.json check "hostile $1: exit $2" exits "$2" "$A" fetch-cpp "$1"
	check "hostile $1: says why" says "$3"
	check "hostile $1: said once, on one line" sh -c "! grep -q '^done' '$T/err' && test \"\$(grep -c 'fetching from' '$T/err')\" -le 1"
}
mkdir "$T/hostile"
python3 tests/hostile_repos.py "$T/hostile" >"$T/hostile.list"
while read -r name code sentence; do
	URL=$T/hostile/$name.git hostile "$name" "$code" "$sentence"
done <<'X'
dot-git 13 the tree holds the name ".GIT"
dot-dot 13 the tree holds the name ".."
slash 13 the tree holds the name "../evil"
backslash 13 the tree holds the name
injected-line 13 the tree holds the name "x?done 1111
link-and-folder 13 link a leaves the tree
link-over-folder 70 creating a: File exists
link-through-link 13 link t leaves the tree
link-absolute 13 link a leaves the tree
gitmodules-link 13 .gitmodules is not a file
name-traversal 13 submodule name leaves its folder
path-dot-git 13 submodule path leaves the tree: ".git/hooks"
path-return 13 submodule path leaves the tree: "sub?"
url-dash 13 submodule URL is an option
url-ssh 13 submodule URL is neither https nor a local path
url-ext 13 submodule URL runs a helper program
include 13 not a submodule section
deep 13 folders are nested too deeply
setuid 13 what was written to disk has tree
missing-object 5 is not whole: object 2222222222222222222222222222222222222222 is not in it
wrong-kind 5 does not match the type
other-content 5 object hash mismatch
borrowed 5 objects/info/alternates
own-programs 5 source directory "." does not appear to contain CMakeLists
X
check "nothing was written outside, nothing ran" test ! -e "$T/hostile/ran" -a ! -e "$T/cache/evil" \
	-a ! -e "$T/cache/references/evil" -a ! -e "$T/cache/references/work/evil"

# the source repository's own configuration: what it includes elsewhere is not read
git clone -q --bare "$T/root" "$T/including.git"
echo "[secret" >"$T/secret"
git -C "$T/including.git" config include.path "$T/secret"
rm -rf "$T/cache/references/sources"
check "a mirror whose configuration includes a file elsewhere: exit 5" exits 5 "$A" fetch-cpp tiny --repo "$T/including.git"
check "the cure is named" says "includes a file elsewhere (include.path)"
if [ "$(id -u)" -eq 0 ]; then
	git clone -q --bare "$T/root" "$T/theirs.git" && chown -R 65534 "$T/theirs.git"
	rm -rf "$T/cache/references/sources"
	check "a mirror of another user is read" exits 5 "$A" fetch-cpp tiny --repo "$T/theirs.git"
	check "and comes to the self-check" says "self-check failed"
	rm -rf "$T/cache/references/sources"
	check "--git cli in it: exit 5" exits 5 "$A" fetch-cpp tiny --git cli --repo "$T/theirs.git"
	check "says whose it is and what to do" says "belongs to user 65534, and git runs only in"
else
	echo "skip - a mirror of another user # needs root to make one"
fi

# a mirror that lacks objects is no network failure; nothing of the try is left over
git -C "$T/root" config uploadpack.allowFilter true
git clone -q --bare --filter=blob:none "file://$T/root" "$T/partial.git"
rm -rf "$T/cache/references/sources"
check "a mirror made with --filter: exit 5" exits 5 "$A" fetch-cpp tiny --repo "$T/partial.git"
check "what it lacks is named, once" sh -c "test \"\$(grep -c 'is not whole: object [0-9a-f]\{40\}' '$T/err')\" = 1"
check "nothing of it is left" test -z "$(find "$T/cache/references/work" -mindepth 1 -not -name '*.lock')"
git clone -q --bare --depth 1 "file://$T/root" "$T/shallow.git"
rm -rf "$T/cache/references/sources"
check "a shallow mirror will do" exits 5 "$A" fetch-cpp tiny --repo "$T/shallow.git"
check "and comes to the self-check" says "self-check failed"

# archives
git -C "$T/root" archive --prefix=tiny-1/ -o "$T/tiny.tar.gz" "$GOOD"
rm -rf "$T/cache/references/sources"
check "the pinned tree from an archive, its submodule cloned: builds" exits 5 "$A" fetch-cpp tiny \
	--archive "$T/tiny.tar.gz"
check "and comes to the self-check" says "self-check failed"
git -C "$T/root" archive --prefix=tiny-1/ -o "$T/other.tar.gz" filters
rm -rf "$T/cache/references/sources"
check "an archive of another tree: exit 13" exits 13 "$A" fetch-cpp tiny --archive "$T/other.tar.gz"
check "both tree ids are named" says "the lock pins tree $TREE"
python3 - "$T/evil.tar" <<X
import io, sys, tarfile
t = tarfile.open(sys.argv[1], "w")
i = tarfile.TarInfo("tiny-1/../../outside")
i.size = 1
t.addfile(i, io.BytesIO(b"x"))
t.close()
X
check "an archive that climbs out: exit 13" exits 13 "$A" fetch-cpp tiny --archive "$T/evil.tar"
check "its name is shown" says "tiny-1/../../outside"

# archives from the network: the fault server's way of a hub, which redirects
python3 - "$T" "$GOOD" <<'X' &
import http.server, os, sys
top, commit = sys.argv[1:]
class H(http.server.BaseHTTPRequestHandler):
    def log_message(self, *a): pass
    def do_GET(self):
        with open(top + "/asked", "a") as f: f.write(self.path + "\n")
        name = {"/good/" + commit: "tiny.tar.gz", "/other/" + commit: "other.tar.gz"}.get(self.path)
        if self.path == "/moved/" + commit:
            self.send_response(302); self.send_header("Location", "/good/" + commit)
            self.send_header("Content-Length", "0"); return self.end_headers()
        if not name:
            self.send_response(404); self.send_header("Content-Length", "0"); return self.end_headers()
        data = open(top + "/" + name, "rb").read()   # as codeload does: neither length nor ranges
        self.send_response(200); self.send_header("Content-Type", "application/x-gzip")
        self.end_headers(); self.wfile.write(data)
s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), H)
open(top + "/port.new", "w").write(str(s.server_address[1])); os.rename(top + "/port.new", top + "/port")
s.serve_forever()
X
server=$!
while [ ! -e "$T/port" ]; do sleep 0.05; done
web=http://127.0.0.1:$(cat "$T/port")
entry tiny-web "$GOOD" "\"tree\":\"$TREE\",\"archive\":\"$web/moved/{commit}\""
entry tiny-nowhere "$GOOD" "\"tree\":\"$TREE\""
write_lock
rm -rf "$T/cache/references/sources"
check "--source archive: the pinned commit's tarball comes over the network" exits 5 "$A" fetch-cpp \
	tiny-web --source archive
check "it was asked for by commit, redirected" has "$T/asked" "/good/$GOOD"
check "and its tree is the pinned one" has "$T/cache/references/by-name/tiny-web/manifest.json" "\"tree\": \"$TREE\""
check "the tarball is not kept" test -z "$(find "$T/cache/references/work" -name '*archive*')"
rm -rf "$T/cache/references/sources"
check "--archive URL" exits 5 "$A" fetch-cpp tiny --archive "$web/good/$GOOD"
rm -rf "$T/cache/references/sources"
check "--archive URL of another tree: exit 13" exits 13 "$A" fetch-cpp tiny --archive "$web/other/$GOOD"
check "both tree ids are named there too" says "the lock pins tree $TREE"
check "an archive that is not there: exit 14" exits 14 "$A" fetch-cpp tiny --archive "$web/none"
check "plain http to another machine is refused: exit 64" exits 64 "$A" fetch-cpp tiny --archive http://example.org/x.tar.gz
check "no archive in the lock, not on GitHub: exit 64" exits 64 "$A" fetch-cpp tiny-nowhere --source archive
check "with what helps" says "name one with --archive"
kill $server

# somebody's own build
mkdir -p "$T/own/build/bin" "$T/own/include"
cp "$SRC"/include/* "$T/own/include"
cc -shared -fPIC -I"$SRC/include" -o "$T/own/build/bin/libllama.so" "$SRC/src/llama.c" "$SRC/sub/sub.c"
entry bitnet-own "$GOOD"
write_lock
check "BITNET_CPP_DIR: that build is used, when it passes its self-check" exits 5 \
	env BITNET_CPP_DIR="$T/own" "$A" fetch-cpp bitnet-own
check "which it does not" says "self-check failed"
check "it is for this CPU and no lesser one" grep -q '"cpu_features": "[a-z0-9_]' \
	"$T/cache/references/by-name/bitnet-own/manifest.json"
check "the worker is linked with it" sh -c "ldd '$T/cache/references/by-name/bitnet-own/bin/assay-worker-bitnet-own' | grep -qF '$T/own/build/bin/libllama.so'"
check "built anew since its self-check: exit 3" sh -c "touch '$T/own/build/bin/libllama.so'; '$A' logits --engine bitnet-own \
	--model x.gguf --prompt x 2>'$T/err'; test \$? -eq 3"
check "it is stale, and how to go on is said" says "libllama.so is not what it was when its self-check passed; run: assay fetch-cpp \
bitnet-own (with BITNET_CPP_DIR, to use that build)"
check "the library is gone: exit 3" sh -c "mv '$T/own/build/bin/libllama.so' '$T/own/so'; '$A' logits --engine bitnet-own \
	--model x.gguf --prompt x 2>'$T/err'; test \$? -eq 3"
check "says which" says "libllama.so is gone"
mv "$T/own/so" "$T/own/build/bin/libllama.so"
entry llama-own "$GOOD"
write_lock
check "LLAMA_CPP_DIR is for llama: exit 5" exits 5 env LLAMA_CPP_DIR="$T/own" "$A" fetch-cpp llama-own
check "that build is linked" sh -c "ldd '$T/cache/references/by-name/llama-own/bin/assay-worker-llama-own' | grep -qF '$T/own/build/bin/libllama.so'"
check "for speed it is another reference: exit 5" exits 5 env LLAMA_CPP_DIR="$T/own" "$A" fetch-cpp llama-own --for speed
check "of its own key" test "$(readlink "$T/cache/references/by-name/llama-own")" != \
	"$(readlink "$T/cache/references/by-name/llama-own.speed")"
check "doctor shows it" sh -c "LLAMA_CPP_DIR='$T/own' '$A' doctor --fast | grep -q 'LLAMA_CPP_DIR.*used for llama'"
check "LLAMA_CPP_DIR without a library: exit 3" exits 3 env LLAMA_CPP_DIR="$T/sub" "$A" fetch-cpp llama-own
check "names the variable" says "LLAMA_CPP_DIR=$T/sub has no shared library of the engine"
check "BITNET_CPP_DIR without a library: exit 3" exits 3 env BITNET_CPP_DIR="$T/sub" "$A" fetch-cpp bitnet-own
check "what is missing is said" says "has no shared library of the engine"
check "BITNET_CPP_REPO and BITNET_CPP_REV are for bitnet" exits 5 env BITNET_CPP_REPO="$T/root" \
	BITNET_CPP_REV=filters "$A" fetch-cpp bitnet-own
check "which is not the pinned one then" says "not the pinned source"
check "and for no other engine" exits 5 env BITNET_CPP_REPO=/nowhere "$A" fetch-cpp tiny --check
check "--submodule without a path: exit 64" exits 64 "$A" fetch-cpp tiny --submodule "$T/sub"
check "its form is shown" says "expected PATH=URL"
check "--submodule of what is none: exit 64" exits 64 "$A" fetch-cpp tiny --submodule "3rdparty/sup=$T/sub"
check "those that are there are named" says "tiny has no submodule 3rdparty/sup; it has 3rdparty/sub"
check "two backends, one --repo: whose?" exits 64 "$A" setup --cpp-backend tiny --cpp-backend bitnet-own \
	--repo "$T/root" --allow-cpp-fail
check "the answer is shown" says "as in --repo tiny=$T/root"
check "each with its own" exits 5 "$A" setup --cpp-backend tiny --cpp-backend bitnet-own \
	--repo "tiny=$T/root" --repo "bitnet-own=$T/root" --rev bitnet-own=filters
check "both came to the self-check" test "$(grep -c 'self-check failed' "$T/out")" = 2
check "BITNET_CPP_DIR again" exits 5 env BITNET_CPP_DIR="$T/own" "$A" fetch-cpp bitnet-own
check "--explain says why it would be made anew" sh -c "sed -i 's/\"compiler\": \"[^\"]*\"/\"compiler\": \"gcc 1.0\"/' \
	'$T/cache/references/by-name/bitnet-own/manifest.json'; '$A' doctor --explain bitnet-own | grep -q 'the compiler changed: it was \"gcc 1.0\"'"

# ---- every known failure --------------------------------------------------------------------
fails() { # entry = signature [, something from the log]
	check "$1: exit 5" exits 5 "$A" fetch-cpp "$1"
	check "$1: recognised" says "known failure \"$1\""
	[ $# -lt 2 ] || check "$1: the first error is shown" says "$2"
}
fails missing-lut-header "ggml-bitnet-mad.cpp:1"
fails mixed-submodule "ggml-bitnet-mad.cpp:1"
fails missing-const "ggml-bitnet-mad.cpp:6"
fails missing-chrono "time.cpp:5"
fails undefined-reference "no_such_call"
fails no-clang "clang-99"
fails no-cmake "99.1"
fails no-cxx-library "cstdinteger"
fails compiler-killed "Killed signal"
fails old-instruction-set "time.cpp"
fails missing-submodule "CMakeLists.txt"
check "the failing command is shown" sh -c "'$A' fetch-cpp missing-chrono 2>&1 | grep -q 'failing command: .*time.cpp'"
check "the whole log is kept" test -s "$T/cache/references/logs/missing-chrono-compile.log"
check "CC and CXX come first and are told" sh -c "CC=$T/none CXX=$T/none '$A' fetch-cpp tiny --explain | grep -qF '$T/none: not in PATH'"
mkdir -p "$T/bin"
for p in sh git uname; do ln -sf "$(command -v $p)" "$T/bin/$p"; done
check "no compiler at all: exit 5" exits 5 env PATH="$T/bin" "$A" fetch-cpp tiny --rebuild
check "what was tried is told" says "clang: not in PATH"
for p in gcc g++ cc c++ as ld; do ln -sf "$(command -v $p)" "$T/bin/$p"; done
check "no cmake: exit 5" exits 5 env PATH="$T/bin" "$A" fetch-cpp tiny --rebuild
check "cmake is named" says "cmake is not in PATH"
ln -sf "$(command -v cmake)" "$T/bin/cmake"
check "neither ninja nor make: exit 5" exits 5 env PATH="$T/bin" "$A" fetch-cpp tiny --rebuild
check "both are named" says "neither ninja nor make"
ln -sf "$(command -v make)" "$T/bin/make"
for p in nm ar ranlib objcopy objdump strip readelf dlltool addr2line echo rm; do
	command -v $p >/dev/null && ln -sf "$(command -v $p)" "$T/bin/$p"
done
check "with make instead of ninja it builds" exits 5 env PATH="$T/bin" "$A" fetch-cpp tiny --rebuild
check "and comes to the self-check" says "self-check failed"
if command -v clang >/dev/null; then
	rm -f "$T"/bin/{gcc,g++,cc,c++}
	n=$(ls /usr/bin | grep -oE '^clang-[0-9]+$' | head -1)
	ln -sf "$(command -v "$n")" "$T/bin/$n"
	ln -sf "$(command -v "clang++-${n#clang-}")" "$T/bin/clang++-${n#clang-}"
	check "only $n: it is found" sh -c "PATH='$T/bin' '$A' fetch-cpp tiny --explain | grep -q '$n + clang++-'"
fi

# ---- patches and generated files ------------------------------------------------------------
digest() { printf '%s\0' "$@" | sha256sum | cut -c1-64; }
mad=src/ggml-bitnet-mad.cpp
find="  int8_t * y_col = y + col * n;" replace="  const int8_t * y_col = y + col * n;"
patch() { # name, from, until
	echo "\"patches\":[{\"name\":\"$1\",\"sha256\":\"$(digest $mad "$find" "$replace")\",\"why\":\"test\",
		\"from\":\"$2\",\"until\":\"$3\",\"edits\":[{\"file\":\"$mad\",\"find\":\"$find\",\"replace\":\"$replace\"}]}]"
}
broken=$($R rev-parse missing-const)
$R checkout -q missing-const && $R commit -q --allow-empty -m later && later=$($R rev-parse HEAD)
$R checkout -q main
entry in-range "$later" "$(patch in-range "$broken" 3333333333333333333333333333333333333333)"
entry in-range-closed "$broken" "$(patch closed "${GOOD:0:10}" "$later")"
entry after-range "$later" "$(patch after "${GOOD:0:10}" "$broken")"
entry generated "$($R rev-parse missing-lut-header)" \
	'"files":[{"path":"include/bitnet-lut-kernels.h","copy_of":"include/ggml-backend.h","why":"test"}]'
entries+=("$(printf '%s' "${entries[0]}" | sed 's/"name":"tiny"/"name":"badpatch","patches":[{"name":"p","sha256":"00","why":"x","edits":[]}]/')")
write_lock
check "a patch whose hash is wrong: the lockfile is refused" exits 64 "$A" fetch-cpp tiny
check "with reference and patch" says 'reference "badpatch", p: "sha256" does not fit'
unset 'entries[-1]'
write_lock
check "in the range (its end not fetched): applied, builds" exits 5 "$A" fetch-cpp in-range
check "in-range comes to the self-check" says "self-check failed"
check "in a closed range: applied, builds" exits 5 "$A" fetch-cpp in-range-closed
check "in-range-closed comes to the self-check" says "self-check failed"
check "after the range: left out, does not build" exits 5 "$A" fetch-cpp after-range
check "after-range fails as the unpatched one" says 'known failure "missing-const"'
check "a generated file is made" exits 5 "$A" fetch-cpp generated
check "and the build gets past it" says "self-check failed"

# ---- what is not needed any more --------------------------------------------------------------
"$A" fetch-cpp tiny --allow-bad-reference >"$T/out" 2>&1
"$A" cache ls >"$T/out" 2>&1
check "cache ls lists references by name" grep -qE '^tiny +build +[0-9.]+ MB +failed' "$T/out"
check "their libraries and sources" grep -qE '^- +libraries +[0-9.]+ MB +needed' "$T/out"
check "and how much that is" grep -qE '^[0-9]+ parts of references, [0-9.]+ MB$' "$T/out"
old=$T/cache/references/$(printf '%064d' 7)
cp -r "$(readlink -f "$T/cache/references/by-name/tiny")" "$old"
mkdir -p "$T/cache/references/libs/$(printf '%064d' 8)/lib" "$T/cache/references/work/build-0123456789abcdef/build"
"$A" cache prune >"$T/out" 2>&1
check "prune without --yes deletes nothing" test -d "$old" -a -d "$T/cache/references/work/build-0123456789abcdef"
check "and says what it would" grep -qE '^- +build .* old +0+7?.*would be deleted' "$T/out"
flock -n "$T/cache/references/work/$(printf '%064d' 7).lock" "$A" cache prune --yes >"$T/out" 2>&1
check "what somebody builds is kept" test -d "$old"
check "and called so" grep -qE '^- +build .*in use .*kept: in use' "$T/out"
check "cache prune --yes: exit 0" exits 0 "$A" cache prune --yes
check "the old build went" test ! -e "$old"
check "its libraries and what was unfinished, too" test ! -e "$T/cache/references/libs/$(printf '%064d' 8)" \
	-a ! -e "$T/cache/references/work/build-0123456789abcdef"
check "what a name leads to is as it was" exits 0 "$A" fetch-cpp tiny --allow-bad-reference
check "nothing had to be made" has "$T/out" "nothing to do"
check "as JSON" sh -c "'$A' cache ls --format json | python3 -c 'import json, sys; assert any(r[\"names\"] == \"tiny\" for r in json.load(sys.stdin)[\"references\"])'"

# ---- an interruption while compilers are tried -------------------------------------------------
printf '#!/bin/sh\ntouch %s/probing\nexec sleep 60\n' "$T" >"$T/slow-cc" && chmod +x "$T/slow-cc"
CC=$T/slow-cc CXX=g++ "$A" fetch-cpp tiny --rebuild >"$T/i.out" 2>"$T/i.err" &
pid=$!
for i in $(seq 200); do [ -e "$T/probing" ] && break; sleep 0.1; done
kill -TERM $pid
wait $pid; got=$?
check "interrupted while a compiler is tried: exit 130" test $got -eq 130
check "and no other compiler was tried" grep -q "interrupted while $T/slow-cc ran" "$T/i.err"

# ---- two builders, kill -9, a full disk -----------------------------------------------------
fresh() { rm -rf "$T/cache/references"; }
fresh
export COUNT_FILE=$T/count
rm -f "$COUNT_FILE"
"$A" fetch-cpp slow >"$T/a.out" 2>"$T/a.err" &
one=$!
"$A" fetch-cpp slow >"$T/b.out" 2>"$T/b.err" &
two=$!
wait $one; a=$?
wait $two; b=$?
check "two builders of one key: both end well" test $a$b = 55
check "and the library was linked once" test "$(wc -l <"$COUNT_FILE")" -eq 1
check "the other one waited and said so" grep -q "waiting for another builder (process" "$T/a.err" "$T/b.err"

kill_at() { # stage, text in the events that shows it
	fresh
	"$A" fetch-cpp slow --events jsonl >"$T/k.out" 2>"$T/k.err" &
	local pid=$! i
	for i in $(seq 400); do
		grep -qE "$2" "$T/k.err" && break
		sleep 0.02
	done
	check "kill -9 during $1: it was there" grep -qE "$2" "$T/k.err"
	kill -9 $pid
	wait $pid 2>/dev/null
	check "kill -9 during $1: nothing half is installed" test ! -e "$T/cache/references/by-name/slow"
	check "kill -9 during $1: a re-run completes" exits 5 "$A" fetch-cpp slow
	check "kill -9 during $1: and comes to the self-check" says "self-check failed"
	check "kill -9 during $1: nothing is left over" test -z \
		"$(find "$T/cache/references/work" -mindepth 1 -not -name '*.lock' -not -name 'check-*')"
}
kill_at clone '"objects": ?[0-9]'
kill_at checkout '"files": ?[1-9]'
kill_at configure '"what":"configure"'
kill_at compile '"what":"compile"'
kill_at install 'libraries: configured'
unset COUNT_FILE

fresh
check "a full disk (file size limit): exit 18" exits 18 bash -c "ulimit -f 4000; exec '$A' fetch-cpp slow"
check "and a re-run with room completes" exits 5 "$A" fetch-cpp slow
if [ "$(id -u)" -eq 0 ] && mkdir "$T/small" && mount -t tmpfs -o size=24m none "$T/small" 2>/dev/null; then
	check "a full tmpfs: exit 18" exits 18 env ASSAY_CACHE="$T/small" "$A" fetch-cpp slow
	umount "$T/small"
else
	echo "skip - a full tmpfs # mounting is not allowed here"
fi

# ---- a cache folder that cannot be written, one of an odd name, narrow rights ------------------
if [ "$(id -u)" -eq 0 ] && command -v runuser >/dev/null && chmod 755 "$T" &&
	runuser -u nobody -- test -x "$A" -a -r "$T/lock.json"; then
	mkdir -p "$T/ro" "$T/theirs" && chmod 555 "$T/ro" && chown nobody "$T/theirs"
	as_nobody() { runuser -u nobody -- env -u ASSAY_CACHE HOME="$T/ro" "$@"; }
	check "a HOME that cannot be written: exit 64" exits 64 as_nobody "$A" fetch-cpp tiny
	check "the cure is said" says "set ASSAY_CACHE to a folder of your own"
	check "doctor knows before" sh -c "runuser -u nobody -- env -u ASSAY_CACHE HOME='$T/ro' '$A' doctor --fast |
		grep -q 'cannot be made: set ASSAY_CACHE'"
	check "another cache folder helps; nothing else in HOME is needed" exits 5 as_nobody env -u ASSAY_CCACHE \
		ASSAY_CACHE="$T/theirs/c" "$A" fetch-cpp tiny --repo "$T/root"
	check "and it comes to the self-check" says "self-check failed"
else
	echo "skip - a user without a HOME # needs root and runuser, and a tree that others may read"
fi
odd="$T/a cache, façade 100% \$HOME"
check "a cache folder with spaces, commas and more: builds" exits 5 env ASSAY_CACHE="$odd" "$A" fetch-cpp tiny
check "and comes to the self-check" says "this tiny reference loads no model"
check "one with a colon: exit 64" exits 64 env ASSAY_CACHE="$T/a:b" "$A" fetch-cpp tiny
check "says why" says "a colon, a semicolon or a quote in its name"
for mask in 077 000; do
	check "umask $mask: builds" exits 5 sh -c "umask $mask; exec env ASSAY_CACHE='$T/mask$mask' '$A' fetch-cpp tiny"
	check "umask $mask: comes to the self-check" says "this tiny reference loads no model"
done

# ---- git http-backend behind a web server ---------------------------------------------------
. tests/git_http.sh
git clone -q --bare "$T/root" "$T/www/root.git"
if git_http_start "$T/www" "$T"; then
	fresh
	http=http://127.0.0.1:$git_http_port
	check "smart HTTP: clone, build, self-check" exits 5 "$A" fetch-cpp tiny --repo "$http/root.git"
	check "smart HTTP: the pinned commit came" says "source: commit $GOOD"
	check "smart HTTP: it was git's own protocol" grep -q git-upload-pack "$T/git-http/access.log"
	check "no such repository: exit 14 after retries" exits 14 "$A" fetch-cpp slow --repo "$http/none.git"
	git_http_stop
else
	echo "skip - git http-backend behind nginx # nginx or fcgiwrap is not here"
fi

# ---- pages and environment ------------------------------------------------------------------
check "docs/references-symptoms.md is the table's page" sh -c "'$A' doctor --symptoms | cmp - docs/references-symptoms.md"
unset ASSAY_REFERENCES_LOCK
check "the built-in lockfile reads" exits 0 "$A" doctor --fast
for r in bitnet bitnet-2026-03 llama; do check "doctor knows $r" has "$T/out" "$r"; done
check "doctor as JSON" sh -c "'$A' doctor --fast --format json | python3 -m json.tool >/dev/null"
check "no reference ready, one required: exit 3" exits 3 "$A" preflight --fast --require-cpp
check "doctor --backend of an absent one: exit 3" exits 3 "$A" doctor --backend llama
check "with the command that provides it" says "assay fetch-cpp llama"
check "an unknown one: exit 64" exits 64 "$A" fetch-cpp no-such-thing
export LD_LIBRARY_PATH="/it's here"
for form in sh fish pwsh json github; do check "env --emit $form" exits 0 "$A" env --emit $form; done
check "sh can read it" sh -c "eval \"\$('$A' env)\" && test \"\$ASSAY_CACHE\" = '$T/cache'"
unset LD_LIBRARY_PATH
check "setup without the network's reference goes on when told to" exits 0 "$A" setup --cpp-backend llama \
	--repo "$T/root" --allow-cpp-fail
check "and says what is not there" has "$T/out" "drifted from the lock"
check "setup without it fails" exits 13 "$A" setup --cpp-backend llama --repo "$T/root"
check "the models are there all the same" has "$T/out" "tier ci-light: 2 of 2 here"
check "env.sh is written" has "$T/cache/env.sh" "export ASSAY_CACHE="

# ---- from nothing to a comparison, no model named ------------------------------------------
export ASSAY_REFERENCES_LOCK=$T/lock.json
fresh
"$A" full-crossval --cpp-backend tiny --allow-bad-reference --out "$T/full" >"$T/out" 2>"$T/err"
model=$("$A" fetch-models --id tiny-llama 2>/dev/null)
check "full-crossval takes the tier's model of the reference's architecture" says "model $model"
check "and comes to the sweep" has "$T/out" "scenario1"
