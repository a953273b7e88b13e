// Reads batches of bodies from stdin as Go's standard library reads them; see external.py for the frames.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"os"
	"strings"
)

type named struct {
	Model *string `json:"model"`
}

// text is what one reader makes of a body: null where it rejects it, 0 where it finds no text.
func text(model *string, err error) any {
	if err != nil {
		return nil
	}
	if model == nil {
		return 0
	}
	return *model
}

func readJSON(body []byte) any {
	var whole, first named
	var fields map[string]any
	readings := []any{}
	err := json.Unmarshal(body, &whole)
	readings = append(readings, text(whole.Model, err))
	err = json.NewDecoder(bytes.NewReader(body)).Decode(&first)
	readings = append(readings, text(first.Model, err))
	err = json.Unmarshal(body, &fields)
	if model, is := fields["model"].(string); is {
		readings = append(readings, text(&model, err))
	} else {
		readings = append(readings, text(nil, err))
	}
	return append(readings, newest(body))
}

func readForm(body []byte, contentType string) any {
	_, parameters, err := mime.ParseMediaType(contentType)
	if err != nil {
		return []any{nil}
	}
	form, err := multipart.NewReader(bytes.NewReader(body), parameters["boundary"]).ReadForm(1 << 20)
	if err != nil {
		return []any{nil}
	}
	found := [][]string{}
	for name, values := range form.Value {
		if strings.Contains(strings.ToLower(name), "model") {
			for _, value := range values {
				found = append(found, []string{name, value})
			}
		}
	}
	return []any{found}
}

func part(from []byte) ([]byte, []byte) {
	size := binary.BigEndian.Uint32(from)
	return from[4 : 4+size], from[4+size:]
}

func main() {
	input, output := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	size := make([]byte, 4)
	for {
		if _, err := io.ReadFull(input, size); err != nil {
			return
		}
		batch := make([]byte, binary.BigEndian.Uint32(size))
		if _, err := io.ReadFull(input, batch); err != nil {
			return
		}
		readings := []any{}
		for len(batch) > 0 {
			var contentType, body []byte
			contentType, batch = part(batch)
			body, batch = part(batch)
			if os.Args[1] == "json" {
				readings = append(readings, readJSON(body))
			} else {
				readings = append(readings, readForm(body, string(contentType)))
			}
		}
		answer, _ := json.Marshal(readings)
		binary.BigEndian.PutUint32(size, uint32(len(answer)))
		output.Write(size)
		output.Write(answer)
		output.Flush()
	}
}
