// Package graph runs a function written over engine.Ops as Gorgonia graphs: built and differentiated once for a kind of block,
// compiled into a forward program and programs of gradients, and replayed for every block of that kind. It is the only
// importer of gorgonia.org.
//
// What Gorgonia does here: it holds the expression graph, derives the backward pass from the SymDiff rules of our
// operations (one Backpropagate per graph), adds the gradients of values that are used twice (through our engine's Add),
// prunes each program to what its outputs need (CompileFunction) and runs it (TapeMachine). What it does not do is touch
// numbers. Its values are tokens: one *tensor.Dense per node, made when the graph is built, whose memory lies in a
// mapping that nobody may read or write, so that any access from Gorgonia's side is a crash at once and not a wrong
// number. The tensors behind the tokens belong to an engine.Backend, are found by the token's address, and are freed when
// the last operation that reads them has run. A step therefore allocates nothing in Gorgonia, and graphs run unchanged on
// memory that the host cannot see.
//
// Which values of the forward pass are kept for the backward pass, and which are computed again, is a Memory policy. The
// gradient program contains the forward operations as well; each of them is computed, or stands for a kept value, or is
// not needed. All policies give the same bits.
package graph
