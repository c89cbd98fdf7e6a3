package program_test

import (
	"context"
	"errors"
	"fmt"

	"scn.alt/scn/daemon/program"
)

func ExampleRun() {
	out, err := program.Run(context.Background(), []string{"tr", "a-z", "A-Z"}, []byte("question\n"))
	fmt.Printf("%s%v\n", out, err)
	_, err = program.Run(context.Background(), []string{"yes"}, nil)
	fmt.Println(errors.Is(err, program.ErrFlood))
	_, err = program.Run(context.Background(), []string{"sh", "-c", "echo out of paper >&2; exit 3"}, nil)
	fmt.Println(err)
	// Output:
	// QUESTION
	// <nil>
	// true
	// sh: exit status 3: out of paper
}
