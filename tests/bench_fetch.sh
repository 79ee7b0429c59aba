#!/usr/bin/env bash
# fetch-models beside curl and aria2c, from a loopback nginx: seconds, medians of ROUNDS (5), interleaved.
#   1. no limit: downloaded and verified, against curl's and aria2c's unverified write
#      what the disk takes for it: dd of as many zeros past the page cache
#   2. 20 MB/s per connection, 8 connections
# Needs nginx, curl and aria2c; 3 GiB in TMPDIR. Not part of the tests: a busy machine measures itself.
set -eu
B=$(cd "${B:-build/cc}" && pwd)
cd "$(dirname "$0")"
rounds=${ROUNDS:-5} bytes=1073741824
dir=$(mktemp -d)
chmod 755 "$dir"	# nginx started by root serves as another user
port=$((20000 + RANDOM % 20000))
trap '[ -f "$dir/pid" ] && kill "$(cat "$dir/pid")"; rm -rf "$dir"' EXIT
mkdir "$dir/root"
openssl enc -aes-128-ctr -pass pass:assay -nosalt -pbkdf2 </dev/zero 2>/dev/null | head -c $bytes >"$dir/root/f"
sum=$(openssl dgst -sha256 -r "$dir/root/f" | cut -d' ' -f1)
sync	# the disk is nobody's when the first one starts
cat >"$dir/nginx.conf" <<END
worker_processes 2;
pid $dir/pid;
error_log $dir/error.log;
events { worker_connections 256; }
http {
	access_log off; sendfile on;
	client_body_temp_path $dir/t1; proxy_temp_path $dir/t2; fastcgi_temp_path $dir/t3;
	uwsgi_temp_path $dir/t4; scgi_temp_path $dir/t5;
	server { listen 127.0.0.1:$port; root $dir/root; }
	server { listen 127.0.0.1:$((port + 1)); root $dir/root; limit_rate 20m; }
}
END
nginx -e "$dir/error.log" -c "$dir/nginx.conf"
for p in $port $((port + 1)); do
	cat >"$dir/$p.json" <<END
{"schema_version": 1, "models": [{"id": "f", "tier": "integration", "file": "f", "size": $bytes,
 "sha256": "$sum", "licence": "none", "mirrors": ["http://127.0.0.1:$p/f"]}]}
END
done
url=http://127.0.0.1:$port/f slow=http://127.0.0.1:$((port + 1))/f
run() { # name, command…: appends its seconds to $dir/name
	local name=$1 begin
	shift
	rm -rf "$dir/cache" "$dir/out" "$dir/out.aria2"
	sleep 1
	begin=$(date +%s%N)
	"$@" >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
	echo "$((($(date +%s%N) - begin) / 1000000))" >>"$dir/$name"
}
export ASSAY_CACHE=$dir/cache
for _ in $(seq "$rounds"); do
	run assay "$B/assay" fetch-models --lock "$dir/$port.json" --id f
	run curl curl -s -o "$dir/out" "$url"
	run curl_verified sh -c "curl -s -o '$dir/out' '$url' && openssl dgst -sha256 '$dir/out'"
	run aria2 aria2c -q -x8 -s8 -d "$dir" -o out "$url"
	run assay_20 "$B/assay" fetch-models --lock "$dir/$((port + 1)).json" --id f
	run dd_direct dd if=/dev/zero of="$dir/out" bs=4M count=$((bytes >> 22)) oflag=direct
	run aria2_20 aria2c -q -x8 -s8 -d "$dir" -o out "$slow"
done
echo "load $(cut -d' ' -f1-3 /proc/loadavg), $(nproc) processors, $rounds rounds; ms: median (least … most)"
for name in assay curl curl_verified aria2 dd_direct assay_20 aria2_20; do
	sort -n "$dir/$name" | awk -v n=$name '{v[NR] = $1} END {printf "%-14s %6d (%d … %d)\n", n, v[int((NR + 1) / 2)], v[1], v[NR]}'
done
