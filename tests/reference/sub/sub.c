int sub_answer(void);
int sub_answer(void)
{
	return 42;
}
