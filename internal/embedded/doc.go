// Package embedded runs a Temporal server with its web UI and an S3 gateway for people who have neither.
//
// They run in a child process of the same binary, so that a fault or an out-of-memory kill of the training
// process does not take the orchestrator down, and because the gateway changes the working directory. All
// state is in one folder:
//
//	services.json     addresses, process id and versions of the running or last child
//	credentials.json  keys of the S3 gateway, made once, mode 0600
//	lock              held by the child while it runs; contains its process id
//	clients           shared lock of every command that uses the child; when nobody holds it, the child ends
//	starting          lock of the command that starts a child
//	services.log      what the child printed
//	temporal/         SQLite database of the server, its stamp and cluster id
//	s3/               objects as plain files
//
// Locks of the operating system end with their process, so neither an orphan nor a stale lock is left by
// kill -9. Everything listens on the loopback interface only.
//
// Temporal on SQLite is meant for one machine. A team uses a Temporal cluster and an S3 service of its own and
// gives their addresses in the config; then this package is not used.
package embedded
