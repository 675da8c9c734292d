// Package models opens the models that runs name, keeps them open for the activities and runs that name the same ones, and
// closes what nobody has used for longest. It knows files and networks and nothing of training.
package models
