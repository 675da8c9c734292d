// Package training takes the optimiser steps of a chunk: it finds where the chunk stands in the store, hands the trainer
// what the recipe says, and commits a checkpoint of the end, or of what is finished when it has to leave.
package training
