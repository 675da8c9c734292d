// Package durability tests the workflows on a real Temporal server with real processes that are really killed. It has no
// code of its own; it is apart from package workflows so that the tests there do not link the server.
package durability
