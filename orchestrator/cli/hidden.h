/* Commands that this program runs itself as, in children; nobody types them. */
#ifndef ASSAY_HIDDEN_H
#define ASSAY_HIDDEN_H

/*
 * Also has a write beyond a size limit answer EFBIG instead of killing, here and in children.
 *
 * __clone	clone_child_main
 * __git U D P …	clone_git_main
 * __exec P …	dies with its parent and becomes P
 * __recorded F	recorded_main
 * −1 when argv is none of them, else the exit code.
 */
int hidden_main(int argc, char **argv);

#endif
