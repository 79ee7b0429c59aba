# Sourced: git http-backend behind nginx on loopback, for tests of clones over HTTP.
#	git_http_start FOLDER_OF_REPOSITORIES SCRATCH	sets git_http_port; 1 when it cannot be
#	git_http_stop
git_http_start() {
	local www=$1 dir=$2/git-http i
	command -v nginx >/dev/null && command -v fcgiwrap >/dev/null || return 1
	git_http_port=$((20000 + RANDOM % 20000))
	mkdir -p "$dir"
	cat >"$dir/conf" <<-X
		daemon off; pid $dir/pid; error_log $dir/error.log; worker_processes 1;
		events { worker_connections 64; }
		http { access_log $dir/access.log; client_body_temp_path $dir/b; proxy_temp_path $dir/p;
		fastcgi_temp_path $dir/f; uwsgi_temp_path $dir/u; scgi_temp_path $dir/s;
		server { listen 127.0.0.1:$git_http_port; location / {
			fastcgi_pass unix:$dir/sock; fastcgi_param SCRIPT_FILENAME $(git --exec-path)/git-http-backend;
			fastcgi_param GIT_PROJECT_ROOT $www; fastcgi_param GIT_HTTP_EXPORT_ALL 1;
			fastcgi_param PATH_INFO \$uri; fastcgi_param QUERY_STRING \$query_string;
			fastcgi_param REQUEST_METHOD \$request_method; fastcgi_param CONTENT_TYPE \$content_type;
			fastcgi_param REMOTE_USER x; fastcgi_param HTTP_CONTENT_ENCODING \$http_content_encoding;
			fastcgi_read_timeout 600;
		} } }
	X
	[ "$(id -u)" -ne 0 ] || sed -i "1i user root;" "$dir/conf"
	# repositories of another owner are served as they are
	printf '[safe]\n\tdirectory = *\n' >"$dir/gitconfig"
	GIT_CONFIG_GLOBAL=$dir/gitconfig fcgiwrap -s "unix:$dir/sock" 2>/dev/null &
	git_http_pids=$!
	nginx -p "$dir" -c "$dir/conf" 2>/dev/null &
	git_http_pids="$git_http_pids $!"
	for i in $(seq 200); do
		[ -S "$dir/sock" ] && (exec 3<>"/dev/tcp/127.0.0.1/$git_http_port") 2>/dev/null && return 0
		sleep 0.05
	done
	git_http_stop
	return 1
}
git_http_stop() {
	# shellcheck disable=SC2086
	kill $git_http_pids 2>/dev/null
	# shellcheck disable=SC2086
	wait $git_http_pids 2>/dev/null
}
