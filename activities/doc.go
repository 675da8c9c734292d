// Package activities holds the durable steps of a run. An activity is thin: it calls one method of an interface declared
// in contract.go, sends heartbeats while that works, passes a worker's stop and a run's cancellation on, and sorts
// errors into those that another attempt can cure and those that it cannot.
//
// Nothing here knows tensors or S3. The process that starts a worker hands in the implementations.
package activities
