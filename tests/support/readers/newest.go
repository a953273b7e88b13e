//go:build goexperiment.jsonv2

package main

import jsonv2 "encoding/json/v2"

// newest reads with encoding/json/v2, without regard to case.
func newest(body []byte) any {
	var found named
	err := jsonv2.Unmarshal(body, &found, jsonv2.MatchCaseInsensitiveNames(true))
	return text(found.Model, err)
}
